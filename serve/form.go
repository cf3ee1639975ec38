package serve

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/grammar"
)

// form holds an answer to a grammar: what response_format or tool_choice asks
// for. Reasoning that the model begins with is free, until it ends.
type form struct {
	g     *grammar.Grammar
	w     *grammar.Words
	begin *grammar.State
	st    *grammar.State
	phase phase
	tail  string // the end of the reasoning so far
	open  int    // token that opens reasoning; -1: none
	stop  []int  // tokens that end the answer
}

type phase int

const (
	inAnswer phase = iota
	undecided
	inThought
)

const openThink, closeThink = "<think>", "</think>"

// errNoToken ends an answer that no token of the vocabulary goes on with.
var errNoToken = &apiError{status: 422, message: "no token of the vocabulary can go on with the answer that was asked for"}

// vocabulary is made when it is asked for first.
func (s *Server) vocabulary() *grammar.Words {
	s.wordsOnce.Do(func() {
		added := map[int]bool{}
		for _, t := range s.tok.AddedTokens() {
			if id, ok := s.tok.AddedID(t); ok {
				added[id] = true
			}
		}
		s.words = grammar.NewWords(s.model.Config().VocabSize, func(id int) (string, bool) {
			text, _ := s.tok.Bytes(id)
			return text, added[id]
		})
	})
	return s.words
}

// mark is a tag: an added token, or its text where the vocabulary has none.
func (s *Server) mark(tag string) *grammar.Expr {
	if id, ok := s.tok.AddedID(tag); ok {
		return grammar.Mark(id)
	}
	return grammar.Text(tag)
}

// form makes the form of an answer to a prompt.
func (s *Server) form(e *grammar.Expr, prompt string, talks bool) *form {
	g := grammar.New(e)
	f := &form{g: g, w: s.vocabulary(), begin: g.Start(), open: -1, stop: s.model.Config().EOS}
	f.st = f.begin
	if id, ok := s.tok.AddedID(openThink); ok {
		f.open = id
	}
	switch {
	case !talks || strings.HasSuffix(prompt, closeThink):
	case strings.HasSuffix(prompt, openThink):
		f.phase = inThought
	case f.open >= 0:
		f.phase = undecided
	}
	return f
}

// apply returns a copy of a row of logits in which nothing but what may come is
// left; nil: there is nothing.
func (f *form) apply(z []float32) []float32 {
	z = slices.Clone(z)
	none := float32(math.Inf(-1))
	var mask []uint64
	if f.phase != inThought {
		mask = f.g.Mask(f.st, f.w)
	}
	left := false
	for id := range z {
		if f.allows(id, mask) {
			left = left || z[id] != none
			continue
		}
		z[id] = none
	}
	if !left {
		return nil
	}
	return z
}

// allows reports whether a token may come; mask is that of the answer so far.
func (f *form) allows(id int, mask []uint64) bool {
	ends := slices.Contains(f.stop, id)
	if f.phase == inThought {
		if ends {
			return false
		}
		_, ok := f.closes(id)
		return ok
	}
	if ends {
		return f.st.Done()
	}
	if f.phase == undecided && id == f.open {
		return true
	}
	return id/64 < len(mask) && mask[id/64]>>(id%64)&1 == 1
}

// closes says what a token of reasoning leads to: the state of the answer where it
// ends the reasoning, nil where it does not; ok: it may come.
func (f *form) closes(id int) (st *grammar.State, ok bool) {
	text := f.w.Text(id)
	if !strings.Contains(text, ">") {
		return nil, true
	}
	all := f.tail + text
	i := strings.Index(all, closeThink)
	if i < 0 {
		return nil, true
	}
	st = f.g.Bytes(f.begin, all[i+len(closeThink):])
	return st, st != nil
}

// take goes on with a token that was allowed, and reports whether the answer is
// whole.
func (f *form) take(id int) bool {
	switch {
	case slices.Contains(f.stop, id):
		return false // ends it by itself
	case f.phase == inThought:
		if st, _ := f.closes(id); st != nil {
			f.st, f.phase = st, inAnswer
			break
		}
		f.tail += f.w.Text(id)
		f.tail = f.tail[max(len(f.tail)-len(closeThink), 0):]
		return false
	case f.phase == undecided && id == f.open:
		f.phase = inThought
		return false
	default:
		if f.phase == undecided && strings.TrimSpace(f.w.Text(id)) != "" {
			f.phase = inAnswer
		}
		f.st = f.g.Token(f.st, f.w, id)
	}
	return f.st == nil || f.st.Final()
}

// formatOf is the grammar of response_format; nil: any text.
func formatOf(raw []byte) (*grammar.Expr, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	v, err := chat.ParseJSON(raw)
	o, ok := v.(*chat.Object)
	if err != nil || !ok {
		return nil, bad("response_format", "response_format must be an object")
	}
	switch o.Text("type") {
	case "text":
		return nil, nil
	case "json_object":
		return grammar.JSONObject(), nil
	case "json_schema":
		inner, _ := o.Get("json_schema").(*chat.Object)
		if inner == nil || inner.Get("schema") == nil {
			return nil, bad("response_format", "response_format.json_schema needs a schema")
		}
		e, err := grammar.Schema(inner.Get("schema"))
		if err != nil {
			return nil, bad("response_format", "response_format: %v", err)
		}
		return e, nil
	}
	return nil, bad("response_format", "response_format is of type text, json_object or json_schema")
}

// choiceOf is the grammar of tool_choice; nil: the model chooses.
func (s *Server) choiceOf(choice any, tools []*chat.Object, parallel *bool) (*grammar.Expr, error) {
	name, many := "", parallel == nil || *parallel
	switch c := choice.(type) {
	case nil:
		return nil, nil
	case string:
		if c == "auto" || c == "none" {
			return nil, nil
		}
		if c != "required" {
			return nil, bad("tool_choice", "tool_choice is auto, none, required or a function's name")
		}
	case map[string]any:
		f, _ := c["function"].(map[string]any)
		if name, _ = f["name"].(string); c["type"] != "function" || name == "" {
			return nil, bad("tool_choice", `tool_choice must be {"type":"function","function":{"name":...}}`)
		}
		many = false
	default:
		return nil, bad("tool_choice", "tool_choice is auto, none, required or a function's name")
	}
	if len(tools) == 0 {
		return nil, bad("tool_choice", "tool_choice without tools")
	}
	e, err := grammar.Calls(tools, name, many, s.mark)
	var form *grammar.Error
	if errors.As(err, &form) && form.Keyword == "name" {
		return nil, bad("tool_choice", "tool_choice: no tool is called %.80q", name)
	} else if err != nil {
		return nil, bad("tools", "tools: %v", err)
	}
	return e, nil
}
