package companion

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"unicode/utf8"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/lazy"
)

// Difference is one thing that two checkpoints say otherwise.
type Difference struct {
	File    string // name of the file, below the checkpoint
	Path    string // of the key, "text_config.rope_parameters.rope_theta"; "" for the file as a whole
	Source  string // what the source says: JSON, or "absent"
	Result  string // what the result says
	Matters bool   // it changes ids, prompts, pictures, the model, or how answers are sampled and ended
	Why     string // what it changes, or why it changes nothing
}

// Where names the place: the file and the key.
func (d Difference) Where() string {
	if d.Path == "" {
		return d.File
	}
	return d.File + ": " + d.Path
}

// Detail says what differs and what that means.
func (d Difference) Detail() string {
	text := fmt.Sprintf("is %s, the source says %s", d.Result, d.Source)
	if d.Why != "" {
		text += ": " + d.Why
	}
	return text
}

// absent is how a missing key or file is reported.
const absent = "absent"

// maxFile bounds what is read of a file: tokenizers of 150,000 tokens have
// 20 MB.
const maxFile = 256 << 20

// Compare compares the companions of two checkpoints. What cannot be read in
// the source is not compared; what cannot be read in the result is a
// difference that matters. The error is one of reading.
func Compare(ctx context.Context, source, result string) ([]Difference, error) {
	p := pair{ctx, source, result}
	var out []Difference
	for _, part := range []func() ([]Difference, error){p.configs, p.tokenizers, p.tokenizerSettings, p.templates, p.generation, p.preprocessors} {
		list, err := part()
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// pair are the two folders.
type pair struct {
	ctx            context.Context
	source, result string
}

// read reads a file of both; nil where there is none.
func (p pair) read(name string) (a, b []byte, err error) {
	if a, err = read(p.source, name); err != nil {
		return nil, nil, err
	}
	b, err = read(p.result, name)
	return a, b, err
}

func read(dir, name string) ([]byte, error) {
	raw, err := fsx.ReadIn(dir, name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

// objects reads a JSON object of both. ok is false where there is nothing to
// compare: then list has what is to be said of it.
func (p pair) objects(name, why string) (a, b object, list []Difference, ok bool, err error) {
	x, y, err := p.read(name)
	if err != nil || x == nil && y == nil {
		return nil, nil, nil, false, err
	}
	if x == nil {
		return nil, nil, []Difference{{File: name, Source: absent, Result: "there"}}, false, nil
	}
	if a, err = parseObject(x); err != nil {
		return nil, nil, nil, false, nil //nolint:nilerr // nothing to compare with
	}
	if y == nil {
		return a, nil, []Difference{{File: name, Source: "there", Result: absent, Matters: true, Why: why}}, false, nil
	}
	if b, err = parseObject(y); err != nil {
		return nil, nil, []Difference{{File: name, Source: "readable", Result: "not readable", Matters: true, Why: err.Error()}}, false, nil
	}
	return a, b, nil, true, nil
}

// object is a JSON object with numbers as they are written.
type object map[string]any

func parseObject(raw []byte) (object, error) {
	if err := readable(raw); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var o object
	if err := dec.Decode(&o); err != nil {
		if plain := withoutConstants(raw); plain != nil {
			return parseObject(plain)
		}
		return nil, err
	}
	if o == nil {
		return nil, errors.New("is not a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there are bytes behind its object")
	}
	return o, nil
}

// readable reports what keeps Python and Rust from reading a file as text.
func readable(raw []byte) error {
	switch {
	case bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")):
		return errors.New("it begins with a byte order mark (EF BB BF), which readers of JSON refuse")
	case len(bytes.TrimSpace(raw)) == 0:
		return errors.New("it is empty")
	case !utf8.Valid(raw):
		return errors.New("it is not UTF-8")
	}
	return nil
}

// constants are numbers that Python writes and reads, and JSON does not have.
var constants = lazy.Regexp(`"(?:[^"\\]|\\.)*"|-?Infinity|NaN`)

// withoutConstants puts null in the place of NaN and infinities outside of
// strings; nil: there are none.
func withoutConstants(raw []byte) []byte {
	out := constants().ReplaceAllFunc(raw, func(x []byte) []byte {
		if x[0] == '"' {
			return x
		}
		return []byte("null")
	})
	if bytes.Equal(out, raw) {
		return nil
	}
	return out
}
