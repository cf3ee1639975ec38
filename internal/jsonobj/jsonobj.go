// Package jsonobj reads files that have to be one JSON object, and says in plain
// words why one is none.
package jsonobj

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Parse returns the members of the object that a file holds. Of a key that stands
// twice the last value counts, as for Python.
func Parse(raw []byte) (map[string]json.RawMessage, error) {
	trimmed := bytes.TrimSpace(raw)
	switch {
	case len(trimmed) == 0:
		return nil, errors.New("it is empty")
	case bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")):
		return nil, errors.New("it begins with a byte order mark (EF BB BF), which readers of JSON refuse: save it as UTF-8 without one")
	case !utf8.Valid(raw):
		return nil, errors.New("it is not UTF-8")
	case trimmed[0] == '<':
		return nil, errors.New("it is an HTML or XML page, as a server sends in place of a file")
	case trimmed[0] != '{':
		return nil, errors.New("it is not a JSON object")
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		var e *json.SyntaxError
		if errors.As(err, &e) {
			return nil, fmt.Errorf("%w (at byte %d)", err, e.Offset)
		}
		return nil, err
	}
	return m, nil
}
