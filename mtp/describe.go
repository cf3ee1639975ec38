package mtp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/internal/jsonobj"
)

// Entry is one tensor's entry in an Ascend description.
type Entry struct{ Tensor, Scheme string }

// AddEntries returns an Ascend description with the entries that it lacks,
// everything else as it was, or nil if nothing is to be added. The order of the
// file's keys is kept: new entries go to the front of it. An entry that says
// something else is an error that matches ErrConflict.
func AddEntries(text []byte, entries []Entry) ([]byte, error) {
	have, err := jsonobj.Parse(text)
	if err != nil {
		return nil, unreadable(err)
	}
	var missing []Entry
	for _, e := range entries {
		var scheme string
		switch v, ok := have[e.Tensor]; {
		case !ok:
			missing = append(missing, e)
		case json.Unmarshal(v, &scheme) != nil || scheme != e.Scheme:
			return nil, fail(ErrConflict, descriptionName, "", "the entry of %s is %s, the tensor is %s", e.Tensor, v, e.Scheme)
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	open := bytes.IndexByte(text, '{')
	rest := bytes.TrimLeft(text[open+1:], " \t\r\n")
	indent := text[open+1 : len(text)-len(rest)]
	if !bytes.ContainsAny(indent, "\n") {
		indent = []byte("\n  ")
	}
	var b strings.Builder
	b.Write(text[:open+1])
	for i, e := range missing {
		key, err := json.Marshal(e.Tensor)
		if err != nil {
			return nil, err
		}
		scheme, err := json.Marshal(e.Scheme)
		if err != nil {
			return nil, err
		}
		b.Write(indent)
		b.Write(key)
		b.WriteString(": ")
		b.Write(scheme)
		if i < len(missing)-1 || len(have) > 0 {
			b.WriteByte(',')
		}
	}
	if len(have) > 0 {
		b.Write(indent)
	}
	b.Write(rest)
	return []byte(b.String()), nil
}

// unreadable is the error about a description that is no JSON object.
func unreadable(err error) error {
	return fmt.Errorf("%s cannot be read: %w (take it from the same conversion)", descriptionName, err)
}
