package mtp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// addEntries returns an Ascend description with "<name>": "FLOAT" for every
// copy, everything else as it was, or nil if nothing is to be added. The
// order of the file's keys is kept: new entries go to the front of it.
func addEntries(text []byte, copies []Copy) ([]byte, error) {
	var have map[string]json.RawMessage
	if err := json.Unmarshal(text, &have); err != nil {
		return nil, fmt.Errorf("%s: %w", descriptionName, err)
	}
	var missing []string
	for _, c := range copies {
		switch v, ok := have[c.Name]; {
		case !ok:
			missing = append(missing, c.Name)
		case string(v) != `"FLOAT"`:
			return nil, fail(ErrConflict, descriptionName, "", "the entry of %s is %s, the copy is full precision", c.Name, v)
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
	for i, name := range missing {
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		b.Write(indent)
		b.Write(key)
		b.WriteString(`: "FLOAT"`)
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
