package companion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/runtime/chat"
)

// Kind is a stable name of what Examine finds.
type Kind string

// The kinds.
const (
	Unreadable  Kind = "unreadable"   // a file that engines read and cannot
	TokenIDs    Kind = "token-ids"    // an id that no row of the embedding has
	EndTokens   Kind = "end-tokens"   // what ends an answer is no marker of the tokenizer
	Template    Kind = "template"     // the chat template makes no prompt
	MediaTokens Kind = "media-tokens" // ids of pictures and clips are other tokens
	Patches     Kind = "patches"      // pictures are cut otherwise than the tower reads them
)

// Fault is what engines cannot use of a checkpoint's companions, or use wrongly.
type Fault struct {
	Kind   Kind
	Where  string // file, or file and key: "generation_config.json: eos_token_id"
	Detail string
	Mild   bool // it works, but not as one would wish
}

// Examine looks at the companions of one checkpoint by themselves: whether they
// can be read, whether ids are those of the tokenizer, whether the chat template
// prints a prompt. cfg may be nil; what needs it is not looked at then. The error
// is one of reading, or of ctx.
func Examine(ctx context.Context, dir string, cfg *glm.Config) ([]Fault, error) {
	e := &alone{ctx: ctx, dir: dir, cfg: cfg, files: map[string]object{}}
	for _, f := range settingsFiles {
		if f.pictures && cfg != nil && cfg.Vision == nil {
			continue // nobody reads it
		}
		if err := e.settings(f.name, f.without); err != nil {
			return nil, err
		}
	}
	if err := e.tokenizer(); err != nil {
		return nil, err
	}
	if cfg != nil {
		e.ranges()
		e.ends()
		e.markers()
	}
	if cfg != nil && cfg.Vision != nil {
		e.media()
		e.patches()
	}
	if err := e.template(); err != nil {
		return nil, err
	}
	return e.out, nil
}

// settingsFiles are the JSON objects beside the weights, and what becomes of
// engines that cannot read one. transformers takes a generation_config.json that
// it cannot read for one that is not there (generation/configuration_utils.py of
// 5.17 raises OSError for both; vLLM's and SGLang's config readers catch it).
var settingsFiles = []struct {
	name, without string
	pictures      bool
}{
	{"tokenizer_config.json", noTokenizer, false},
	{"generation_config.json", "engines pass over it without a word: answers end and are sampled by config.json and their own defaults", false},
	{"preprocessor_config.json", noPictures, true},
	{"video_preprocessor_config.json", noPictures, true},
	{"processor_config.json", noPictures, true},
}

const (
	noTokenizer = "engines cannot build the tokenizer and do not start"
	noPictures  = "engines cannot prepare pictures and do not start"
)

// alone is one checkpoint under examination.
type alone struct {
	ctx   context.Context
	dir   string
	cfg   *glm.Config
	files map[string]object // settings that could be read
	tok   *tokenizerJSON    // nil: there is none, or it cannot be read
	added map[int64]string  // added tokens by id
	out   []Fault
}

func (e *alone) add(k Kind, where, format string, args ...any) *Fault {
	e.out = append(e.out, Fault{Kind: k, Where: where, Detail: fmt.Sprintf(format, args...)})
	return &e.out[len(e.out)-1]
}

// read reads a file. What the operating system fails at is an error; what makes
// the file unusable is a fault.
func (e *alone) read(name, without string) ([]byte, error) {
	raw, err := read(e.dir, name)
	if err != nil && !fsx.IsIO(err) {
		e.add(Unreadable, name, "%v: %s", err, without)
		return nil, nil
	}
	return raw, err
}

func (e *alone) settings(name, without string) error {
	raw, err := e.read(name, without)
	if err != nil || raw == nil {
		return err
	}
	o, err := parseObject(raw)
	if err != nil {
		e.add(Unreadable, name, "%v: %s", err, without)
		return nil
	}
	e.files[name] = o
	return nil
}

// tokenizer reads tokenizer.json. Models that are no BPE are not judged.
func (e *alone) tokenizer() error {
	raw, err := e.read(tokenizerFile, noTokenizer)
	if err != nil || raw == nil {
		return err
	}
	if err := readable(raw); err != nil {
		e.add(Unreadable, tokenizerFile, "%v: %s", err, noTokenizer)
		return nil
	}
	var kind struct {
		Model struct {
			Type string `json:"type"`
		} `json:"model"`
	}
	var t tokenizerJSON
	err = json.Unmarshal(raw, &t)
	if json.Unmarshal(raw, &kind) == nil && kind.Model.Type != "" && kind.Model.Type != "BPE" {
		return nil
	}
	switch {
	case err != nil:
		e.add(Unreadable, tokenizerFile, "%v: %s", err, noTokenizer)
		return nil
	case len(t.Model.Vocab) == 0:
		e.add(Unreadable, tokenizerFile, "its model has no vocabulary: %s", noTokenizer)
		return nil
	}
	if n, first := t.Model.strangers(); n > 0 {
		e.add(Unreadable, tokenizerFile+": model.merges", "%d of %d merge rules are of tokens that the vocabulary does not have, the first %q + %q: %s",
			n, len(t.Model.Merges), first[0], first[1], noTokenizer)
	}
	e.tok = &t
	e.added = t.added(e.files["tokenizer_config.json"])
	return nil
}

// strangers counts the merge rules with a part, or a whole, that is no token: the
// tokenizers library refuses the file (models/bpe/model.rs, MergeTokenOutOfVocabulary).
func (m *model) strangers() (n int, first merge) {
	if m.Prefix != nil && *m.Prefix != "" {
		return 0, first
	}
	for _, x := range m.Merges {
		_, a := m.Vocab[x[0]]
		_, b := m.Vocab[x[1]]
		_, whole := m.Vocab[x[0]+x[1]]
		if a && b && whole {
			continue
		}
		if n++; n == 1 {
			first = x
		}
	}
	return n, first
}

// template compiles the chat template and lets it print the prompt of one
// question. A template that wants more than the limits of package chat is not
// judged, and neither is a checkpoint that has none.
func (e *alone) template() error {
	where := templateFile(e.dir)
	if where == "tokenizer_config.json" {
		where += ": chat_template"
	}
	t, err := chat.Load(e.dir)
	switch {
	case fsx.IsIO(err):
		return err
	case errors.Is(err, chat.ErrTemplate) && !errors.Is(err, chat.ErrLimit):
		e.add(Template, where, "it does not compile: %v; engines answer no conversation", err)
		return nil
	case err != nil:
		return nil //nolint:nilerr // none, or settings says why it cannot be read
	}
	if !utf8.ValidString(t.Source()) {
		e.add(Template, where, "it is not UTF-8: %s", noTokenizer)
		return nil
	}
	const question = "Where is Hamburg?"
	parts, err := chat.ParseMessages([]byte(`[{"role":"user","content":[{"type":"text","text":"` + question + `"}]}]`))
	if err != nil {
		return err
	}
	var said error // of the usual form
	user := chat.Message("user", question)
	for i, messages := range [][]*chat.Object{{user}, parts, {chat.Message("system", "Be short."), user}} {
		p, err := t.Render(e.ctx, chat.Request{Messages: messages})
		if ctx := e.ctx.Err(); ctx != nil {
			return ctx
		}
		switch {
		case errors.Is(err, chat.ErrLimit):
			return nil
		case err == nil && !strings.Contains(p.Text(), question):
			err = errors.New("the prompt does not hold what the user said")
		case err == nil:
			return nil
		}
		if i == 0 {
			said = err
		}
	}
	e.add(Template, where, "it prints no prompt for one message of a user: %v", said)
	return nil
}
