package layout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// member is one key of a JSON object with the byte range of its value.
type member struct {
	key        string
	start, end int // from the key's opening quote to the value's end
	value      int // start of the value
}

// members returns the keys of the object that raw holds, with their places.
func members(raw []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("layout: config.json is not a JSON object")
	}
	var out []member
	for dec.More() {
		before := int(dec.InputOffset())
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("layout: config.json: %w", err)
		}
		key, _ := t.(string)
		start := before + bytes.IndexByte(raw[before:], '"')
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("layout: config.json: %w", err)
		}
		end := int(dec.InputOffset())
		out = append(out, member{key: key, start: start, end: end, value: end - len(v)})
	}
	return out, nil
}

// removeKey takes a key out of an object, leaving every other byte alone.
func removeKey(raw []byte, key string) ([]byte, error) {
	ms, err := members(raw)
	if err != nil {
		return nil, err
	}
	for i, m := range ms {
		if m.key != key {
			continue
		}
		from, to := m.start, m.end
		switch {
		case i+1 < len(ms):
			to = ms[i+1].start
		case i > 0:
			from = ms[i-1].end
		}
		return append(append([]byte{}, raw[:from]...), raw[to:]...), nil
	}
	return raw, nil
}

// setKey replaces the value of a key where it stands, or puts the key at the
// end of the object, leaving every other byte alone. value is indented JSON of
// depth 0.
func setKey(raw []byte, key string, value []byte) ([]byte, error) {
	ms, err := members(raw)
	if err != nil {
		return nil, err
	}
	indented := strings.ReplaceAll(strings.TrimSpace(string(value)), "\n", "\n  ")
	for _, m := range ms {
		if m.key == key {
			return slices.Concat(raw[:m.value], []byte(indented), raw[m.end:]), nil
		}
	}
	closing := bytes.LastIndexByte(raw, '}')
	line := fmt.Sprintf("\n  %q: %s\n", key, indented)
	if len(ms) == 0 {
		return slices.Concat(raw[:closing], []byte(line), raw[closing:]), nil
	}
	return slices.Concat(raw[:ms[len(ms)-1].end], []byte{','}, []byte(line), raw[closing:]), nil
}

// hasKey reports whether the object under sub ("": the whole) has the key.
func hasKey(raw []byte, sub, key string) bool {
	ms, err := members(raw)
	if err != nil {
		return false
	}
	for _, m := range ms {
		switch {
		case sub == "" && m.key == key:
			return true
		case sub != "" && m.key == sub:
			return hasKey(raw[m.value:m.end], "", key)
		}
	}
	return false
}

// inSub edits the object under key in place.
func inSub(raw []byte, key string, edit func([]byte) ([]byte, error)) ([]byte, error) {
	ms, err := members(raw)
	if err != nil {
		return nil, err
	}
	for _, m := range ms {
		if m.key == key && raw[m.value] == '{' {
			sub, err := edit(raw[m.value:m.end])
			if err != nil {
				return nil, err
			}
			return append(append(append([]byte{}, raw[:m.value]...), sub...), raw[m.end:]...), nil
		}
	}
	return raw, nil
}

// stripQuantization removes every trace of an earlier quantisation.
func stripQuantization(raw []byte) ([]byte, error) {
	strip := func(b []byte) ([]byte, error) {
		b, err := removeKey(b, "quantization_config")
		if err != nil {
			return nil, err
		}
		return removeKey(b, "compression_config")
	}
	raw, err := inSub(raw, "text_config", strip)
	if err != nil {
		return nil, err
	}
	return strip(raw)
}

// marshal renders JSON as the tools of the field do: two spaces, no HTML
// escaping, keys of maps sorted.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	return b.Bytes(), nil
}
