package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
)

// Load reads a tokenizer.json, given by its path or by the directory of a
// checkpoint. Errors match ErrUnsupported, ErrInvalid or those of os.
func Load(path string) (*Tokenizer, error) {
	dir := filepath.Dir(path)
	if fsx.IsDir(path) {
		dir, path = path, filepath.Join(path, "tokenizer.json")
	}
	data, err := fsx.ReadIn(dir, filepath.Base(path), fsx.MaxText)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	t, err := Parse(data)
	var e *Error
	if errors.As(err, &e) {
		e.File = path
	}
	return t, err
}

// file is tokenizer.json. Parts whose form depends on their type stay raw.
type file struct {
	AddedTokens []struct {
		ID         *int   `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Special    bool   `json:"special"`
	} `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         struct {
		Type         string           `json:"type"`
		Dropout      *float64         `json:"dropout"`
		Unk          *string          `json:"unk_token"`
		Prefix       *string          `json:"continuing_subword_prefix"`
		Suffix       *string          `json:"end_of_word_suffix"`
		ByteFallback bool             `json:"byte_fallback"`
		IgnoreMerges bool             `json:"ignore_merges"`
		Vocab        map[string]int32 `json:"vocab"`
		Merges       json.RawMessage  `json:"merges"`
	} `json:"model"`
}

// Parse reads the content of a tokenizer.json; errors as in Load.
func Parse(data []byte) (*Tokenizer, error) {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, invalid("", err.Error())
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	t := &Tokenizer{
		ids: make(map[string]int32, len(f.Model.Vocab)), texts: make(map[int]string, len(f.Model.Vocab)),
		ignoreMerges: f.Model.IgnoreMerges, special: map[int]bool{}, addedIDs: map[string]int{},
	}
	if err := t.addVocab(f.Model.Vocab); err != nil {
		return nil, err
	}
	if err := t.addMerges(f.Model.Vocab, f.Model.Merges); err != nil {
		return nil, err
	}
	for i, a := range f.AddedTokens {
		field := fmt.Sprintf("added_tokens[%d]", i)
		switch {
		case a.ID == nil || *a.ID < 0 || a.Content == "":
			return nil, invalid(field, "needs an id and a content")
		case a.SingleWord || a.LStrip || a.RStrip:
			return nil, unsupported(field, fmt.Sprintf("%q strips or needs word borders", a.Content))
		}
		if old, ok := t.texts[*a.ID]; ok && old != a.Content {
			return nil, invalid(field, fmt.Sprintf("id %d is %q already, cannot be %q too", *a.ID, old, a.Content))
		}
		if _, ok := t.addedIDs[a.Content]; ok {
			return nil, invalid(field, fmt.Sprintf("%q is there twice", a.Content))
		}
		t.addedIDs[a.Content] = *a.ID
		t.added = append(t.added, addedToken{a.Content, *a.ID})
		t.addedFirst[a.Content[0]] = true
		t.texts[*a.ID] = a.Content
		t.maxID = max(t.maxID, *a.ID)
		if a.Special {
			t.special[*a.ID] = true
		}
	}
	slices.SortStableFunc(t.added, func(a, b addedToken) int { return len(b.content) - len(a.content) })
	return t, nil
}

// check refuses every part that this package does not implement.
func (f *file) check() error {
	m := &f.Model
	switch {
	case m.Type != "" && m.Type != "BPE":
		return unsupported("model.type", fmt.Sprintf("%q, only BPE is known", m.Type))
	case m.Dropout != nil && *m.Dropout != 0:
		return unsupported("model.dropout", "encoding would be random")
	case m.Unk != nil:
		return unsupported("model.unk_token", "a byte-level vocabulary has no unknown tokens")
	case m.ByteFallback:
		return unsupported("model.byte_fallback", "only byte-level vocabularies are known")
	case m.Prefix != nil && *m.Prefix != "" || m.Suffix != nil && *m.Suffix != "":
		return unsupported("model", "subword prefixes and word suffixes are not implemented")
	case len(m.Vocab) == 0:
		return invalid("model.vocab", "is empty")
	case !absent(f.Normalizer):
		return unsupported("normalizer", "the GLM tokenizers have none")
	}
	if err := checkPreTokenizer(f.PreTokenizer); err != nil {
		return err
	}
	if !absent(f.PostProcessor) {
		if s, err := parseStage("post_processor", f.PostProcessor); err != nil {
			return err
		} else if !s.addsNothing() {
			return unsupported("post_processor.type", fmt.Sprintf("%q may add tokens", s.Type))
		}
	}
	if s, err := parseStage("decoder", f.Decoder); err != nil {
		return err
	} else if s.Type != "ByteLevel" {
		return unsupported("decoder.type", fmt.Sprintf("%q, only ByteLevel is known", s.Type))
	}
	return nil
}

func absent(m json.RawMessage) bool { return len(m) == 0 || string(m) == "null" }

// stage is a pre-tokenizer, post-processor or decoder.
type stage struct {
	Type           string            `json:"type"`
	PreTokenizers  []json.RawMessage `json:"pretokenizers"`
	Pattern        map[string]string `json:"pattern"`
	Behavior       string            `json:"behavior"`
	Invert         bool              `json:"invert"`
	AddPrefixSpace bool              `json:"add_prefix_space"`
	UseRegex       *bool             `json:"use_regex"`

	Single     []map[string]json.RawMessage `json:"single"`     // TemplateProcessing: what becomes of one text
	Processors []json.RawMessage            `json:"processors"` // of a Sequence
}

// addsNothing reports whether a post-processor gives a text's tokens as they
// are: libraries write a template of the text alone where there is none.
func (s *stage) addsNothing() bool {
	switch s.Type {
	case "ByteLevel": // changes offsets alone
		return true
	case "TemplateProcessing":
		return len(s.Single) == 1 && s.Single[0]["Sequence"] != nil
	case "Sequence":
		return !slices.ContainsFunc(s.Processors, func(raw json.RawMessage) bool {
			p, err := parseStage("post_processor.processors", raw)
			return err != nil || !p.addsNothing()
		})
	}
	return false
}

func parseStage(field string, data json.RawMessage) (s stage, err error) {
	if absent(data) {
		return s, unsupported(field, "is missing")
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, invalid(field, err.Error())
	}
	return s, nil
}

// checkPreTokenizer accepts exactly the split by the GLM pattern followed by
// the byte map.
func checkPreTokenizer(data json.RawMessage) error {
	const field = "pre_tokenizer"
	s, err := parseStage(field, data)
	if err != nil {
		return err
	}
	if s.Type != "Sequence" || len(s.PreTokenizers) != 2 {
		return unsupported(field, fmt.Sprintf("%s of %d stages, expected a Split and a ByteLevel in sequence", s.Type, len(s.PreTokenizers)))
	}
	split, err := parseStage(field+".pretokenizers[0]", s.PreTokenizers[0])
	if err != nil {
		return err
	}
	bl, err := parseStage(field+".pretokenizers[1]", s.PreTokenizers[1])
	if err != nil {
		return err
	}
	switch {
	case split.Type != "Split" || bl.Type != "ByteLevel":
		return unsupported(field, fmt.Sprintf("%s, %s instead of Split, ByteLevel", split.Type, bl.Type))
	case split.Pattern["Regex"] != glmPattern:
		return unsupported(field+".pretokenizers[0].pattern",
			fmt.Sprintf("%q is not the GLM pattern; another one would give other ids", split.Pattern["Regex"]))
	case split.Behavior != "Isolated" || split.Invert:
		return unsupported(field+".pretokenizers[0]", "every match must be a piece of its own (Isolated, not inverted)")
	case bl.AddPrefixSpace:
		return unsupported(field+".pretokenizers[1]", "add_prefix_space")
	case bl.UseRegex == nil || *bl.UseRegex:
		return unsupported(field+".pretokenizers[1]", "use_regex would split by another pattern again")
	}
	return nil
}

func (t *Tokenizer) addVocab(vocab map[string]int32) error {
	for entry, id := range vocab {
		if id < 0 {
			return invalid("model.vocab", fmt.Sprintf("%q has id %d", entry, id))
		}
		text, ok := unmap(entry)
		if ok {
			t.ids[text] = id
		} else {
			text = entry // decodes to itself and is never encoded
		}
		if old, ok := t.texts[int(id)]; ok {
			return invalid("model.vocab", fmt.Sprintf("id %d is both %q and %q", id, old, text))
		}
		t.texts[int(id)] = text
		t.maxID = max(t.maxID, int(id))
	}
	for b := range 256 {
		id, ok := t.ids[string([]byte{byte(b)})]
		if !ok {
			return invalid("model.vocab", fmt.Sprintf("byte 0x%02x (%q) is missing, not every text could be encoded", b, byteRunes[b]))
		}
		t.bytes[b] = id
	}
	return nil
}

// addMerges reads merges as ["a b", …] or [["a", "b"], …].
func (t *Tokenizer) addMerges(vocab map[string]int32, raw json.RawMessage) error {
	var pairs [][]string
	if absent(raw) {
		return invalid("model.merges", "is missing")
	}
	if err := json.Unmarshal(raw, &pairs); err != nil {
		var lines []string
		dec := json.NewDecoder(bytes.NewReader(raw))
		if dec.Decode(&lines) != nil {
			return invalid("model.merges", "neither a list of strings nor of pairs")
		}
		pairs = make([][]string, len(lines))
		for i, l := range lines {
			pairs[i] = strings.Split(l, " ")
		}
	}
	t.merges = make(map[pair]merge, len(pairs))
	for rank, p := range pairs {
		field := fmt.Sprintf("model.merges[%d]", rank)
		if len(p) != 2 {
			return invalid(field, fmt.Sprintf("%q has not two parts", p))
		}
		left, ok1 := vocab[p[0]]
		right, ok2 := vocab[p[1]]
		id, ok3 := vocab[p[0]+p[1]]
		if !ok1 || !ok2 || !ok3 {
			return invalid(field, fmt.Sprintf("%q + %q: a part or the result is not in the vocabulary", p[0], p[1]))
		}
		t.merges[pairOf(left, right)] = merge{int32(rank), id}
	}
	return nil
}
