package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/glmconv/glmconv/runtime/chat/jinja"
)

const (
	maxInput = 64 << 20
	maxDepth = 64
)

// Object is a JSON object in the order in which it was written. Values are
// nil, bool, int64, float64, string, json.Number (integers beyond 64 bits),
// []any and *Object.
type Object struct {
	Keys   []string
	Values map[string]any
}

// NewObject returns an object of alternating keys and values.
func NewObject(pairs ...any) *Object {
	o := &Object{Values: map[string]any{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		o.Set(pairs[i].(string), pairs[i+1])
	}
	return o
}

// Set stores a value. A new key goes last, an old one keeps its place, as in Python.
func (o *Object) Set(key string, value any) {
	if _, ok := o.Values[key]; !ok {
		o.Keys = append(o.Keys, key)
	}
	o.Values[key] = value
}

// Get returns the value of a key, or nil.
func (o *Object) Get(key string) any { return o.Values[key] }

// Text returns the string at key, or "".
func (o *Object) Text(key string) string { s, _ := o.Values[key].(string); return s }

// ParseJSON decodes one JSON value, objects as *Object in source order.
func ParseJSON(data []byte) (any, error) {
	if len(data) > maxInput {
		return nil, fmt.Errorf("%w: %d bytes of JSON, more than %d", ErrLimit, len(data), maxInput)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%w: JSON is not UTF-8", ErrInvalid)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := decode(dec, 0)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = fmt.Errorf("more after the value (byte %d)", dec.InputOffset())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: JSON: %w", ErrInvalid, err)
	}
	return v, nil
}

func decode(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch t := tok.(type) {
	case json.Delim:
		if t == '[' {
			list := []any{}
			for dec.More() {
				v, err := decode(dec, depth+1)
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			_, err := dec.Token()
			return list, err
		}
		o := NewObject()
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := decode(dec, depth+1)
			if err != nil {
				return nil, err
			}
			o.Set(key.(string), v)
		}
		_, err := dec.Token()
		return o, err
	case json.Number:
		return number(t)
	}
	return tok, nil
}

// maxDigits is Python's limit for integers read from text.
const maxDigits = 4300

// number follows Python: an integer unless written with point or exponent.
func number(n json.Number) (any, error) {
	if i, err := n.Int64(); err == nil {
		return i, nil
	}
	if !bytes.ContainsAny([]byte(n), ".eE") {
		if len(n) > maxDigits {
			return nil, fmt.Errorf("an integer of %d digits, more than %d", len(n), maxDigits)
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return nil, fmt.Errorf("number %.40s is out of range", n)
	}
	return f, nil
}

// Dumps writes a value as Python's json.dumps(v, ensure_ascii=False) does.
func Dumps(v any) string {
	text, err := jinja.JSON(Native(v))
	if err != nil { // nested deeper than ParseJSON allows
		return "null"
	}
	return text
}
