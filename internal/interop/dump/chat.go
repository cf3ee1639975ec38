package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/chat/jinja"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// render writes {"text": …} or {"error": …} for every conversation of r, one
// JSON object a line: messages, tools, add_generation_prompt (default true)
// and further variables of the template. A tokenizer adds "ids". The file "-"
// takes the template from each line: {"template": …, "variables": {…}}.
func render(file, tokens string, r io.Reader, w io.Writer) error {
	do := snippet
	if file != "-" {
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		tmpl, err := chat.New(file, string(source))
		if err != nil {
			return err
		}
		var tok *tokenizer.Tokenizer
		if tokens != "" {
			if tok, err = tokenizer.Load(tokens); err != nil {
				return err
			}
		}
		do = func(o *chat.Object) (map[string]any, error) { return renderOne(tmpl, tok, o) }
	}
	lines, out := bufio.NewScanner(r), bufio.NewWriter(w)
	lines.Buffer(nil, 64<<20)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for lines.Scan() {
		row, err := map[string]any(nil), error(nil)
		if v, e := chat.ParseJSON(lines.Bytes()); e != nil {
			err = e
		} else if o, ok := v.(*chat.Object); !ok {
			err = fmt.Errorf("a conversation is an object")
		} else {
			row, err = do(o)
		}
		if err != nil {
			row = map[string]any{"error": err.Error()}
		}
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}

func snippet(o *chat.Object) (map[string]any, error) {
	tmpl, err := jinja.Parse(o.Text("template"))
	if err != nil {
		return nil, err
	}
	vars := map[string]any{}
	if given, ok := o.Get("variables").(*chat.Object); ok {
		for _, k := range given.Keys {
			vars[k] = chat.Native(given.Get(k))
		}
	}
	text, err := tmpl.Render(context.Background(), vars, time.Time{})
	return map[string]any{"text": text.String()}, err
}

func renderOne(tmpl *chat.Template, tok *tokenizer.Tokenizer, o *chat.Object) (map[string]any, error) {
	req := chat.Request{Extra: map[string]any{}}
	for _, k := range o.Keys {
		switch v := o.Get(k).(type) {
		case []any:
			var list []*chat.Object
			for _, e := range v {
				item, ok := e.(*chat.Object)
				if !ok {
					return nil, fmt.Errorf("%s: not a list of objects", k)
				}
				list = append(list, item)
			}
			if k == "messages" {
				req.Messages = list
			} else if k == "tools" {
				req.Tools = list
			}
		default:
			switch {
			case k == "add_generation_prompt":
				req.NoGeneration = v == false
			case k != "messages" && k != "tools":
				req.Extra[k] = v
			}
		}
	}
	p, err := tmpl.Render(context.Background(), req)
	row := map[string]any{"text": p.Text()}
	if tok != nil && err == nil {
		row["ids"] = list(p.Encode(tok))
	}
	return row, err
}
