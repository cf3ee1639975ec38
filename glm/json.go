package glm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// maxConfigSize bounds config.json. The largest published ones (long ignore
// lists of quantised releases) are below 3 MB.
const (
	maxConfigSize  = 32 << 20
	maxConfigDepth = 64
)

// checkJSON reports what encoding/json would let pass: duplicate keys at any
// level, invalid UTF-8, anything after the value.
func checkJSON(data []byte) error {
	if len(data) > maxConfigSize {
		return fmt.Errorf("%d bytes, more than %d", len(data), maxConfigSize)
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("not UTF-8")
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return fmt.Errorf("begins with a byte order mark (EF BB BF), which JSON does not have: save it as UTF-8 without one")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	// One entry for each open object or array; keys is nil for an array.
	type level struct {
		keys   map[string]bool
		expect bool // the next string token is a key
	}
	var stack []level
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			if len(stack) > 0 {
				return fmt.Errorf("ends in the middle of a value")
			}
			return nil
		}
		if err != nil {
			return err
		}
		top := len(stack) - 1
		if len(stack) > maxConfigDepth {
			return fmt.Errorf("objects nested deeper than %d", maxConfigDepth)
		}
		if key, ok := tok.(string); ok && top >= 0 && stack[top].expect {
			if stack[top].keys[key] {
				return fmt.Errorf("key %q twice in one object (before byte %d)", key, dec.InputOffset())
			}
			stack[top].keys[key] = true
			stack[top].expect = false
			continue
		}
		switch tok {
		case json.Delim('{'):
			stack = append(stack, level{keys: map[string]bool{}, expect: true})
			continue
		case json.Delim('['):
			stack = append(stack, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
			top--
		}
		if top >= 0 && stack[top].keys != nil {
			stack[top].expect = true
		}
		if top < 0 && dec.More() {
			return fmt.Errorf("something follows the value (at byte %d)", dec.InputOffset())
		}
	}
}

// object is a JSON object with its path in the file; the getters record the
// first error in one place, so that reading a config needs no ladder of ifs.
type object struct {
	path   string // "", or "text_config." and the like
	fields map[string]json.RawMessage
	err    *error
}

func parseObject(data []byte) (object, error) {
	o := object{err: new(error)}
	if err := checkJSON(data); err != nil {
		e := &ConfigError{Reason: err.Error(), Kind: ErrInvalid}
		if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n\ufeff"), []byte("<")) {
			e.Reason, e.Advice = "it is an HTML or XML page, as a server sends in place of a file (a login, an error)", "fetch the file again"
		}
		return o, e
	}
	if err := json.Unmarshal(data, &o.fields); err != nil || o.fields == nil {
		return o, &ConfigError{Reason: "not a JSON object", Kind: ErrInvalid}
	}
	return o, nil
}

// has reports whether the key is there and not null.
func (o object) has(key string) bool {
	v, ok := o.fields[key]
	return ok && string(v) != "null"
}

// raw returns the value's text, shortened, for error messages.
func (o object) raw(key string) string {
	var line bytes.Buffer
	if json.Compact(&line, o.fields[key]) != nil {
		return ""
	}
	s := line.String()
	if len(s) > 80 {
		s = s[:77] + "..."
	}
	return s
}

func (o object) fail(kind error, key, reason, hint string) {
	if *o.err == nil {
		*o.err = &ConfigError{Field: o.path + key, Value: o.raw(key), Reason: reason, Advice: hint, Kind: kind}
	}
}

func (o object) invalid(key, format string, args ...any) {
	o.fail(ErrInvalid, key, fmt.Sprintf(format, args...), "")
}

func (o object) unsupported(key, hint, format string, args ...any) {
	o.fail(ErrUnsupported, key, fmt.Sprintf(format, args...), hint)
}

// sub returns the object under key; an empty one when absent or null.
func (o object) sub(key string) object {
	s := object{path: o.path + key + ".", err: o.err}
	if !o.has(key) {
		return s
	}
	if err := json.Unmarshal(o.fields[key], &s.fields); err != nil {
		o.invalid(key, "must be an object")
	}
	return s
}

// size reads a required integer in [min, max].
func (o object) size(key string, min, max int) int {
	if !o.has(key) {
		o.invalid(key, "missing, and the model cannot be described without it")
		return min
	}
	return o.sizeOr(key, min, min, max)
}

// sizeOr reads an integer in [min, max]; def when absent or null.
func (o object) sizeOr(key string, def, min, max int) int {
	if !o.has(key) {
		return def
	}
	n, ok := integer(o.fields[key])
	if !ok {
		o.invalid(key, "must be an integer")
		return def
	}
	if n < int64(min) || n > int64(max) {
		o.invalid(key, "must be between %d and %d", min, max)
		return def
	}
	return int(n)
}

// integer accepts 128 and 128.0 (both occur in the wild), nothing else.
func integer(raw json.RawMessage) (int64, bool) {
	s := string(bytes.TrimSpace(raw))
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	var f float64
	if json.Unmarshal(raw, &f) != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// number reads a required float above zero.
func (o object) number(key string) float64 {
	if !o.has(key) {
		o.invalid(key, "missing, and the model cannot be described without it")
		return 1
	}
	return o.numberOr(key, 1)
}

// numberOr reads a finite float above zero; def when absent or null.
func (o object) numberOr(key string, def float64) float64 {
	if !o.has(key) {
		return def
	}
	var f float64
	if err := json.Unmarshal(o.fields[key], &f); err != nil || !(f > 0) || math.IsInf(f, 0) {
		o.invalid(key, "must be a number above zero")
		return def
	}
	return f
}

func (o object) boolOr(key string, def bool) bool {
	if !o.has(key) {
		return def
	}
	b := def
	if err := json.Unmarshal(o.fields[key], &b); err != nil {
		o.invalid(key, "must be true or false")
		return def
	}
	return b
}

func (o object) textOr(key, def string) string {
	if !o.has(key) {
		return def
	}
	s := def
	if err := json.Unmarshal(o.fields[key], &s); err != nil {
		o.invalid(key, "must be a string")
		return def
	}
	return s
}

func (o object) texts(key string) []string {
	var list []string
	if o.has(key) && json.Unmarshal(o.fields[key], &list) != nil {
		o.invalid(key, "must be a list of strings")
		return nil
	}
	return list
}

// ids reads a token id or a list of them; nil when absent or null.
func (o object) ids(key string) []int {
	if !o.has(key) {
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(o.fields[key], &list) != nil {
		list = []json.RawMessage{o.fields[key]}
	}
	ids := make([]int, 0, len(list))
	for _, raw := range list {
		n, ok := integer(raw)
		if !ok || n < 0 || n > math.MaxInt32 {
			o.invalid(key, "must be a token id or a list of token ids")
			return nil
		}
		ids = append(ids, int(n))
	}
	return ids
}
