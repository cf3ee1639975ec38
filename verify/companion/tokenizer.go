package companion

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const tokenizerFile = "tokenizer.json"

// tokenizerJSON is tokenizer.json as far as it decides ids and texts.
type tokenizerJSON struct {
	Truncation    any          `json:"truncation"`
	Padding       any          `json:"padding"`
	AddedTokens   []addedToken `json:"added_tokens"`
	Normalizer    any          `json:"normalizer"`
	PreTokenizer  any          `json:"pre_tokenizer"`
	PostProcessor any          `json:"post_processor"`
	Decoder       any          `json:"decoder"`
	Model         model        `json:"model"`
}

type model struct {
	Type         string           `json:"type"`
	Dropout      *float64         `json:"dropout"`
	Unk          *string          `json:"unk_token"`
	Prefix       *string          `json:"continuing_subword_prefix"`
	Suffix       *string          `json:"end_of_word_suffix"`
	ByteFallback bool             `json:"byte_fallback"`
	IgnoreMerges bool             `json:"ignore_merges"`
	Vocab        map[string]int64 `json:"vocab"`
	Merges       []merge          `json:"merges"`
}

// addedToken is an entry of added_tokens. Normalized tells whether it is found
// in normalised text, which is all text where there is no normaliser.
type addedToken struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// merge is a pair of tokens, written as "a b" or as ["a", "b"].
type merge [2]string

// UnmarshalJSON reads either form.
func (m *merge) UnmarshalJSON(raw []byte) error {
	var joined string
	if json.Unmarshal(raw, &joined) == nil {
		a, b, ok := strings.Cut(joined, " ")
		if !ok {
			return fmt.Errorf("merge %q is not a pair", joined)
		}
		m[0], m[1] = a, b
		return nil
	}
	return json.Unmarshal(raw, (*[2]string)(m))
}

// tokenizers compares tokenizer.json: what it makes of text, and of ids.
func (p pair) tokenizers() ([]Difference, error) {
	x, y, err := p.read(tokenizerFile)
	if err != nil || x == nil || string(x) == string(y) {
		return nil, err
	}
	if y == nil {
		return []Difference{{File: tokenizerFile, Source: "there", Result: absent, Matters: true, Why: "engines cannot read text without it"}}, nil
	}
	var a, b tokenizerJSON
	if json.Unmarshal(x, &a) != nil {
		return nil, nil // nothing to compare with
	}
	if err := json.Unmarshal(y, &b); err != nil {
		return []Difference{{File: tokenizerFile, Source: "readable", Result: "not readable", Matters: true, Why: err.Error()}}, nil
	}
	var out []Difference
	add := func(path, source, result, why string) {
		out = append(out, Difference{File: tokenizerFile, Path: path, Source: source, Result: result, Matters: why != "", Why: why})
	}
	for _, s := range []struct {
		path, why string
		a, b      any
	}{
		{"normalizer", "text is normalised in another way before it is split", step(a.Normalizer), step(b.Normalizer)},
		{"pre_tokenizer", "text is split in another way", step(a.PreTokenizer), step(b.PreTokenizer)},
		{"post_processor", "other tokens are put around a text", after(a.PostProcessor), after(b.PostProcessor)},
		{"decoder", "ids become other text", step(a.Decoder), step(b.Decoder)},
		{"truncation", "", a.Truncation, b.Truncation},
		{"padding", "", a.Padding, b.Padding},
		{"model", "another algorithm makes the ids", a.Model.settings(), b.Model.settings()},
	} {
		if u, v := canonical(s.a), canonical(s.b); u != v {
			add(s.path, short(u), short(v), s.why)
		}
	}
	out = append(out, vocabularies(a.Model.Vocab, b.Model.Vocab)...)
	if at, ok := firstDifference(a.Model.Merges, b.Model.Merges); ok {
		add(fmt.Sprintf("model.merges[%d]", at), mergeAt(a.Model.Merges, at), mergeAt(b.Model.Merges, at), "text becomes other ids")
	}
	return append(out, addedTokens(&a, &b)...), nil
}

// settings are what decides ids beside vocabulary and merges.
func (m *model) settings() map[string]any {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	kind := m.Type
	if kind == "" {
		kind = "BPE"
	}
	dropout := 0.0
	if m.Dropout != nil {
		dropout = *m.Dropout
	}
	return map[string]any{"type": kind, "dropout": dropout, "unk_token": text(m.Unk), "continuing_subword_prefix": text(m.Prefix),
		"end_of_word_suffix": text(m.Suffix), "byte_fallback": m.ByteFallback, "ignore_merges": m.IgnoreMerges}
}

// after is a post-processor without what puts no token anywhere: ByteLevel moves
// offsets alone, and a template may hold nothing but the text.
func after(v any) any {
	steps := []any{step(v)}
	if o, ok := steps[0].(map[string]any); ok && o["type"] == "Sequence" {
		steps, _ = o["steps"].([]any)
	}
	steps = slices.DeleteFunc(slices.Clone(steps), func(v any) bool {
		o, _ := v.(map[string]any)
		return o == nil || o["type"] == "ByteLevel" || o["type"] == "TemplateProcessing" && plainTemplate(o)
	})
	switch len(steps) {
	case 0:
		return nil
	case 1:
		return steps[0]
	}
	return map[string]any{"type": "Sequence", "steps": steps}
}

// plainTemplate reports whether a template puts out every text once, in order,
// and nothing else.
func plainTemplate(o map[string]any) bool {
	for key, ids := range map[string][]string{"single": {"A"}, "pair": {"A", "B"}} {
		list, _ := o[key].([]any)
		if len(list) != len(ids) {
			return false
		}
		for i, x := range list {
			piece, _ := x.(map[string]any)
			text, _ := piece["Sequence"].(map[string]any)
			if text["id"] != ids[i] {
				return false
			}
		}
	}
	return true
}

// step brings a step of the pipeline into one form: a sequence of one is that
// one, an empty sequence is none, and what changes offsets alone is left out.
func step(v any) any {
	o, ok := v.(map[string]any)
	if !ok {
		return v
	}
	if o["type"] == "Sequence" {
		for _, key := range []string{"pretokenizers", "normalizers", "processors", "decoders"} {
			list, ok := o[key].([]any)
			switch {
			case !ok:
			case len(list) == 0:
				return nil
			case len(list) == 1:
				return step(list[0])
			default:
				steps := make([]any, len(list))
				for i := range list {
					steps[i] = step(list[i])
				}
				return map[string]any{"type": "Sequence", "steps": steps}
			}
		}
	}
	out := maps.Clone(o)
	if o["type"] == "ByteLevel" {
		delete(out, "trim_offsets")
		for key, standard := range map[string]bool{"add_prefix_space": true, "use_regex": true} {
			if out[key] == nil {
				out[key] = standard
			}
		}
	}
	return out
}

func vocabularies(a, b map[string]int64) []Difference {
	var differ []string
	for token, id := range a {
		if other, ok := b[token]; !ok || other != id {
			differ = append(differ, token)
		}
	}
	for token := range b {
		if _, ok := a[token]; !ok {
			differ = append(differ, token)
		}
	}
	if len(differ) == 0 {
		return nil
	}
	slices.Sort(differ)
	token := differ[0]
	return []Difference{{File: tokenizerFile, Path: fmt.Sprintf("model.vocab[%q]", token), Source: idOf(a, token), Result: idOf(b, token), Matters: true,
		Why: fmt.Sprintf("%d tokens have other ids", len(differ))}}
}

func idOf(m map[string]int64, token string) string {
	if id, ok := m[token]; ok {
		return fmt.Sprint(id)
	}
	return absent
}

func firstDifference(a, b []merge) (at int, differ bool) {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return i, true
		}
	}
	return 0, false
}

func mergeAt(list []merge, i int) string {
	if i >= len(list) {
		return absent
	}
	return fmt.Sprintf("%q + %q", list[i][0], list[i][1])
}

// addedTokens compares added tokens by id. Tokens of the same id and flags may
// stand in any order.
func addedTokens(a, b *tokenizerJSON) (out []Difference) {
	x, y := map[int64]addedToken{}, map[int64]addedToken{}
	for _, t := range a.AddedTokens {
		x[t.ID] = t
	}
	for _, t := range b.AddedTokens {
		y[t.ID] = t
	}
	ids := slices.Collect(maps.Keys(x))
	for id := range y {
		if _, ok := x[id]; !ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	plain := a.Normalizer == nil && b.Normalizer == nil
	show := func(m map[int64]addedToken, id int64) string {
		t, ok := m[id]
		if !ok {
			return absent
		}
		flags := ""
		for _, f := range []struct {
			name string
			on   bool
		}{{"special", t.Special}, {"lstrip", t.LStrip}, {"rstrip", t.RStrip}, {"single_word", t.SingleWord}, {"normalized", t.Normalized && !plain}} {
			if f.on {
				flags += ", " + f.name
			}
		}
		return fmt.Sprintf("%q%s", t.Content, flags)
	}
	for _, id := range ids {
		if u, v := show(x, id), show(y, id); u != v {
			out = append(out, Difference{File: tokenizerFile, Path: fmt.Sprintf("added_tokens, id %d", id), Source: u, Result: v, Matters: true,
				Why: "it is found in text, or left out of answers, in another way"})
		}
	}
	return out
}
