package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// Engine is a serving engine.
type Engine string

// The engines that tables exist for.
const (
	VLLM   Engine = "vllm"
	SGLang Engine = "sglang"
	Ascend Engine = "vllm-ascend"
)

// Engines lists them all, in the order of reports.
var Engines = []Engine{VLLM, SGLang, Ascend}

// spec is what is known of an engine: its releases, and rows of facts that
// say in which of them they hold. Each engine's file has one.
type spec struct {
	name     Engine
	title    string                // as the engine writes itself
	releases []string              // oldest first
	renewed  []string              // releases from which modules are built or matched otherwise
	vendors  func(Layout) []string // whose devices it takes a layout to
	layouts  []Layout              // that are written for it: in others it is a guest

	forms   []form            // which formats it knows
	schemes map[string]scheme // which entries of an Ascend description
	rules   []rule            // what else it demands
	faults  []fault           // what becomes of damage
	// misfit is what becomes of a module that is built otherwise than stored.
	misfit func(x *Misfit) (how string, answer Answer)

	// resolve matches a module with a configuration.
	resolve func(r Release, cfg *glm.Config, c *Config, m Module) Resolution
	// flags are what the serve command must carry, drafts is what it must carry
	// for speculative decoding, or why there is none.
	flags  func(c cell) []string
	drafts func(c cell) (flags []string, none string)
}

var specs = map[Engine]*spec{VLLM: &vllm, SGLang: &sglang, Ascend: &ascend}

// span is the releases in which a fact holds: from the first one named to the
// one before the second. An empty end is open.
type span struct{ from, until string }

// Release is one release of an engine.
type Release struct {
	Engine  Engine
	Version string

	spec *spec
	at   int // in spec.releases
}

// String returns "vllm 0.33".
func (r Release) String() string { return string(r.Engine) + " " + r.Version }

// Title returns the name as the engine writes it, with the release.
func (r Release) Title() string { return r.spec.title + " " + r.Version }

// holds reports whether a fact holds in the release.
func (r Release) holds(s span) bool {
	return (s.from == "" || r.at >= r.spec.index(s.from)) && (s.until == "" || r.at < r.spec.index(s.until))
}

// index is the position of a release among those known, or of the first after
// it.
func (s *spec) index(version string) int {
	i := slices.Index(s.releases, version)
	if i < 0 {
		panic("engine: a row of " + string(s.name) + " names a release that is not in its list: " + version)
	}
	return i
}

func (s *spec) release(i int) Release { return Release{s.name, s.releases[i], s, i} }

// Newest is the newest release in the tables.
func Newest(e Engine) Release {
	s := specs[e]
	return s.release(len(s.releases) - 1)
}

// Releases lists an engine's releases in the tables, oldest first.
func Releases(e Engine) []Release {
	s := specs[e]
	out := make([]Release, len(s.releases))
	for i := range out {
		out[i] = s.release(i)
	}
	return out
}

// Matchers are the releases of an engine whose ways of building and matching
// modules cover those of all others: the newest, and the last one before each
// change.
func Matchers(e Engine) []Release {
	s := specs[e]
	out := []Release{Newest(e)}
	for _, v := range s.renewed {
		out = append(out, s.release(s.index(v)-1))
	}
	return out
}

// Find reads "vllm", the newest release, or "vllm@0.32". Further parts of a
// version are ignored: 0.32.1 is 0.32. The error is an *UnknownError.
func Find(text string) (Release, error) {
	name, version, asked := strings.Cut(text, "@")
	s := specs[Engine(name)]
	if s == nil {
		return Release{}, &UnknownError{What: "engine", Name: name, Known: names(Engines)}
	}
	if !asked {
		return Newest(s.name), nil
	}
	version = strings.TrimPrefix(version, "v")
	for i, v := range s.releases {
		if rest, ok := strings.CutPrefix(version, v); ok && (rest == "" || rest[0] < '0' || rest[0] > '9') {
			return s.release(i), nil
		}
	}
	return Release{}, &UnknownError{What: "release of " + name, Name: version, Known: s.releases}
}

func names[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = string(x)
	}
	return out
}

// Guest reports whether a layout was made for other engines: what an engine
// says of it is worth knowing and no fault of the checkpoint.
func Guest(e Engine, l Layout) bool { return l != "" && !slices.Contains(specs[e].layouts, l) }

// Takes reports whether an engine knows some form of a layout.
func Takes(e Engine, l Layout) bool {
	return !Guest(e, l) || slices.ContainsFunc(specs[e].forms, func(f form) bool { return f.layout == l && f.answer != Refuses })
}

// UnknownError is returned for an engine, a release or a device that is in no
// table.
type UnknownError struct {
	What, Name string
	Known      []string
}

func (e *UnknownError) Error() string { return fmt.Sprintf("unknown %s %q", e.What, e.Name) }

// Hint lists what is known.
func (e *UnknownError) Hint() string { return "known are " + strings.Join(e.Known, ", ") }

// Is makes every UnknownError an ErrUnknown.
func (e *UnknownError) Is(target error) bool { return target == ErrUnknown }

// ErrUnknown is every *UnknownError: what was asked for is in no table.
var ErrUnknown = errors.New("engine: in no table")

// fault is what an engine does with one kind of damage in a checkpoint, named
// by the code that package check has for it. Damage without a row concerns the
// engine's loading in no way.
type fault struct {
	codes  []string
	does   Answer
	whole  Answer // in an unquantized checkpoint, where it differs
	during span
}

// Reacts says what the release does with a kind of damage in a checkpoint
// that is quantized or not: Loads where it does not matter.
func (r Release) Reacts(code string, quantized bool) Answer {
	for _, f := range r.spec.faults {
		switch {
		case !slices.Contains(f.codes, code) || !r.holds(f.during):
		case !quantized && f.whole != "":
			return f.whole
		default:
			return f.does
		}
	}
	return Loads
}

// Codes lists the kinds of damage that the tables know.
func Codes() []string {
	var out []string
	for _, e := range Engines {
		for _, f := range specs[e].faults {
			out = append(out, f.codes...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
