package mutate

import (
	"os"
	"path/filepath"
	"strings"
)

// Made is a result and the source that it was made from.
type Made struct{ Source, Dir string }

// Fault is one way in which a result can be wrong, or be said to be something
// that it is not. Where a Mutation damages weights, a Fault touches whatever
// decides answers: files beside the weights, declarations, additions, copies,
// the way that all weights were rounded.
type Fault struct {
	Group string // what is touched
	Name  string
	// Apply edits m.Dir in place; m.Source is read only.
	Apply func(m Made) (applies bool, err error)
	// Says are words of which at least one must stand in what is found.
	Says []string
	// Notes is true for what changes no answer of the folder as it is, and must
	// be named all the same.
	Notes bool
	// Bare is true for faults that a manifest gives away: they are tried on
	// results without one.
	Bare bool
	// Recorded is true for faults that nothing but a manifest can give away.
	Recorded bool
}

// Faults lists the faults of all groups.
func Faults() []Fault {
	var out []Fault
	for _, group := range []struct {
		name string
		list []Fault
	}{
		{"tokenizer", ofTokenizer()}, {"settings", ofSettings()}, {"template", ofTemplate()}, {"preprocessor", ofPreprocessor()},
		{"declaration", ofDeclaration()}, {"description", ofDescription()}, {"configuration", ofConfig()}, {"additions", ofAdditions()},
		{"leftovers", ofLeftovers()}, {"copies", ofCopies()}, {"values", ofValues()}, {"rounding", ofRounding()},
	} {
		for _, f := range group.list {
			f.Group = group.name
			out = append(out, f)
		}
	}
	return out
}

// jsonFile is the change of a JSON file of the result.
func jsonFile(name string, fn func(m map[string]any) bool) func(Made) (bool, error) {
	return func(m Made) (bool, error) { return EditJSON(m.Dir, name, fn) }
}

// set puts a value at a path of keys; it does not apply where the value is
// there already or an object on the way is not.
func set(value any, path ...string) func(map[string]any) bool {
	return func(m map[string]any) bool {
		o := objectAt(m, path[:len(path)-1]...)
		if o == nil {
			return false
		}
		key := path[len(path)-1]
		if old, ok := o[key]; ok && same(old, value) {
			return false
		}
		o[key] = value
		return true
	}
}

// lose removes a key; it does not apply where there is none.
func lose(path ...string) func(map[string]any) bool {
	return func(m map[string]any) bool {
		o := objectAt(m, path[:len(path)-1]...)
		_, ok := o[path[len(path)-1]]
		delete(o, path[len(path)-1])
		return ok
	}
}

// objectAt is the object at a path, nil if there is none.
func objectAt(m map[string]any, path ...string) map[string]any {
	for _, key := range path {
		m, _ = m[key].(map[string]any)
	}
	return m
}

// onSet is a change of tensors.
func onSet(fn func(s Set) bool) func(Made) (bool, error) {
	return func(m Made) (bool, error) {
		return Edit(m.Dir, func(s Set) (bool, error) { return fn(s), nil })
	}
}

// textFile is the change of a text file; it does not apply where there is none.
func textFile(name string, fn func(s string) string) func(Made) (bool, error) {
	return func(m Made) (bool, error) {
		path := filepath.Join(m.Dir, name)
		raw, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		changed := fn(string(raw))
		if changed == string(raw) {
			return false, nil
		}
		if err := swap(path, []byte(changed)); err != nil {
			return false, err
		}
		return true, forge(m.Dir)
	}
}

// without removes a file.
func without(name string) func(Made) (bool, error) {
	return func(m Made) (bool, error) {
		err := os.Remove(filepath.Join(m.Dir, name))
		if os.IsNotExist(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return true, forge(m.Dir)
	}
}

// with adds a file, or files, that the result does not have.
func with(content string, names ...string) func(Made) (bool, error) {
	return func(m Made) (bool, error) {
		for _, name := range names {
			path := filepath.Join(m.Dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
				return false, err
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				return false, err
			}
		}
		return true, nil
	}
}

// replaced changes the first place of a text that has old.
func replaced(old, by string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, by, 1) }
}
