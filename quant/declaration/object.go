package declaration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/jsonwalk"
)

// Kind says what is the matter with a field.
type Kind uint8

// The kinds of problems.
const (
	Unknown     Kind = iota // a key that nobody here knows
	Invalid                 // the field breaks a rule of its own format: tools and engines refuse it, or read something else
	Unsupported             // understood, and outside of what is judged: nothing said of the modules it concerns is the whole truth
	Suspect                 // allowed, and probably not what was meant
)

// String names the kind.
func (k Kind) String() string {
	return [...]string{"unknown key", "invalid", "not supported", "suspect"}[k]
}

// Problem is a field that was not understood in full. With it every field of
// a declaration is either read, known to have no effect, or named.
type Problem struct {
	Path string // as in "quantization_config.config_groups.group_0.weights.num_bits"
	Kind Kind
	Text string // what it is and why that matters
}

// String is the problem in one line.
func (p Problem) String() string { return p.Path + ": " + p.Text }

// reader collects the problems of one declaration.
type reader struct {
	d *Declaration
	n int // problems that were left out
}

// maxProblems bounds the list: a hostile file has as many as it has bytes.
const maxProblems = 200

func (r *reader) add(path string, kind Kind, format string, args ...any) {
	if len(r.d.Problems) >= maxProblems {
		r.n++
		return
	}
	r.d.Problems = append(r.d.Problems, Problem{path, kind, fmt.Sprintf(format, args...)})
}

// unread notes why no weight of the checkpoint can be read, whichever group it
// is of: its order of codes, or what is done to it while running, is not known.
func (r *reader) unread(path, format string, args ...any) {
	p := Problem{path, Unsupported, fmt.Sprintf(format, args...)}
	if r.d.unread == "" {
		r.d.unread = p.String()
	}
	r.add(p.Path, p.Kind, "%s", p.Text)
}

// badPattern notes an entry that is no pattern.
func (r *reader) badPattern(path string, err error) {
	err = fmt.Errorf("declaration: %s: %w", path, err)
	if r.d.broken == nil {
		r.d.broken = err
	}
	r.add(path, Invalid, "%v", errors.Unwrap(err))
}

// object is a JSON object with its keys in file order. Each accessor marks its
// key as known; rest reports the others.
type object struct {
	r      *reader
	path   string
	keys   []string
	values map[string]json.RawMessage
	known  map[string]bool
}

// object reads raw, which is valid JSON. A null or absent object is empty;
// of equal keys the last holds, as in every reader of JSON that matters here.
func (r *reader) object(path string, raw json.RawMessage) *object {
	o := &object{r: r, path: path, values: map[string]json.RawMessage{}, known: map[string]bool{}}
	if isNull(raw) {
		return o
	}
	walk := jsonwalk.New(raw)
	if _, ok := walk.Open(); !ok {
		r.add(path, Invalid, "it is %s, not an object", shorten(string(raw)))
		return o
	}
	for walk.More() {
		key, _ := walk.Key()
		if _, twice := o.values[key]; twice {
			r.add(path+"."+key, Suspect, "the key stands there twice; the last one holds")
		} else {
			o.keys = append(o.keys, key)
		}
		o.values[key] = walk.Value().Of(raw)
	}
	return o
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func (o *object) at(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

// raw returns a value, nil if it is absent or null.
func (o *object) raw(key string) json.RawMessage {
	o.known[key] = true
	if v := o.values[key]; !isNull(v) {
		return bytes.TrimSpace(v)
	}
	return nil
}

// has reports whether the key is there and not null.
func (o *object) has(key string) bool { return o.raw(key) != nil }

// into decodes a value; what is of another type is a problem and stays zero.
func into[T any](o *object, key, what string) (v T, ok bool) {
	raw := o.raw(key)
	if raw == nil {
		return v, false
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		var zero T
		o.r.add(o.at(key), Invalid, "it is %s, not %s", shorten(string(raw)), what)
		return zero, false
	}
	return v, true
}

func (o *object) text(key string) string {
	v, _ := into[string](o, key, "a text")
	return v
}

func (o *object) integer(key string) (int, bool) { return into[int](o, key, "an integer") }

func (o *object) boolean(key string) (value, ok bool) {
	return into[bool](o, key, "true or false")
}

func (o *object) list(key string) []string {
	v, _ := into[[]string](o, key, "a list of texts")
	return v
}

func (o *object) sub(key string) *object { return o.r.object(o.at(key), o.raw(key)) }

// first returns the first of several spellings that is there.
func (o *object) first(keys ...string) string {
	found := keys[0]
	for _, k := range slices.Backward(keys) {
		if o.has(k) {
			found = k
		}
	}
	return found
}

// noEffect marks keys that change nothing about what is stored or computed.
func (o *object) noEffect(keys ...string) {
	for _, k := range keys {
		o.known[k] = true
	}
}

// empty demands that a key is absent, null or an empty object or list, and
// otherwise says what it would mean.
func (o *object) empty(key, meaning string) {
	if o.means(key) {
		o.r.add(o.at(key), Unsupported, "%s", meaning)
	}
}

// without is empty for a key that changes what every weight means.
func (o *object) without(key, meaning string) {
	if o.means(key) {
		o.r.unread(o.at(key), "%s", meaning)
	}
}

// means reports whether a key holds anything.
func (o *object) means(key string) bool {
	switch string(o.raw(key)) {
	case "", "{}", "[]", "false", "0", `""`:
		return false
	}
	return true
}

// one demands one of several values, none among them if "" is.
func (o *object) one(key string, values ...string) string {
	v := o.text(key)
	if !slices.Contains(values, strings.ToLower(v)) {
		o.r.add(o.at(key), Unsupported, "%q is not one of the values known for it: %s", v, strings.Join(values, ", "))
	}
	return v
}

// rest reports the keys that nobody asked for.
func (o *object) rest(kind Kind, consequence string) {
	for _, k := range o.keys {
		if !o.known[k] {
			o.r.add(o.at(k), kind, "unknown key%s", consequence)
		}
	}
}
