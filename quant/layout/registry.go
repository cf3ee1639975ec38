package layout

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// registry lists the layouts. A new one is its file and its line here.
var registry = []Layout{compressedTensors{}, hfFP8{}, ascend{}, modelOpt{}, unquantized{}}

// published are the formats that are read and not written.
var published = []Reader{quark{}, gptq{}, awq{}}

// readers are all formats that are read, in the order in which tensors are
// offered to them.
func readers() []Reader {
	list := make([]Reader, 0, len(registry)+len(published))
	for _, l := range registry {
		list = append(list, l)
	}
	return append(list, published...)
}

// Schemes lists the schemes in the order of the documentation.
var Schemes = []Scheme{FP8, FP8Block, W8A8, W4A8, W4A16, W4A8FP8, NVFP4, NVFP4A16, MXFP4, MXFP4A16, MXFP8, MXFP8A16, Int4Int8, BF16}

// Formats lists the formats.
var Formats = formats()

func formats() (list []Format) {
	for _, l := range registry {
		list = append(list, l.Format())
	}
	return list
}

// preferred are the defaults of schemes that the first layout which has them is
// not for.
var preferred = map[Scheme]Format{FP8Block: HFFP8, W4A8: Ascend}

// formatsOf lists the formats that a scheme exists in, its default first.
func formatsOf(s Scheme) (list []Format) {
	for _, l := range registry {
		if !slices.Contains(l.schemes(), s) {
			continue
		}
		if l.Format() == preferred[s] {
			list = slices.Insert(list, 0, l.Format())
		} else {
			list = append(list, l.Format())
		}
	}
	return list
}

// ErrImpossible is what every [*ImpossibleError] matches by errors.Is.
var ErrImpossible = errors.New("impossible plan")

// ImpossibleError says that a scheme, format, family or dimension do not go
// together, by which rule, and what does. Nothing is wrong with the input.
type ImpossibleError struct {
	What    string
	Rule    string
	Nearest string
}

// Error returns what is impossible and the rule.
func (e *ImpossibleError) Error() string { return e.What + ": " + e.Rule }

// Is matches ErrImpossible.
func (e *ImpossibleError) Is(target error) bool { return target == ErrImpossible }

// Hint names the nearest pair that works.
func (e *ImpossibleError) Hint() string { return e.Nearest }

// ParseScheme returns the scheme of a name; the error is an *ImpossibleError.
func ParseScheme(s string) (Scheme, error) {
	for _, v := range Schemes {
		if string(v) == s {
			return v, nil
		}
	}
	return "", &ImpossibleError{What: fmt.Sprintf("unknown scheme %q", s), Rule: "the schemes are " + join(Schemes),
		Nearest: "w8a8 or fp8 fit most machines"}
}

// ParseFormat returns the format of a name, "" for ""; the error is an
// *ImpossibleError.
func ParseFormat(s string) (Format, error) {
	for _, v := range Formats {
		if string(v) == s || s == "" {
			return Format(s), nil
		}
	}
	return "", &ImpossibleError{What: fmt.Sprintf("unknown format %q", s), Rule: "the formats are " + join(Formats),
		Nearest: "without a format the scheme's default is taken"}
}

// DefaultFormat returns the format a scheme takes for a model when none is
// asked for.
func DefaultFormat(s Scheme, cfg *glm.Config) Format {
	if s == W8A8 && cfg.SparseAttention() {
		return Ascend // no GPU of the INT8 generation has kernels for sparse attention
	}
	return formatsOf(s)[0]
}

// Supported returns nil if the pair is possible, else an *ImpossibleError.
func Supported(s Scheme, f Format) error {
	if _, err := ParseScheme(string(s)); err != nil {
		return err
	}
	for _, g := range formatsOf(s) {
		if f == g {
			return nil
		}
	}
	var other []string
	for _, t := range Schemes {
		for _, g := range formatsOf(t) {
			if g == f {
				other = append(other, string(t))
			}
		}
	}
	return &ImpossibleError{
		What:    fmt.Sprintf("%s cannot be written as %s", s, f),
		Rule:    "no engine reads that pair; " + string(s) + " exists as " + join(formatsOf(s)),
		Nearest: fmt.Sprintf("%s as %s; or as %s: %s", s, formatsOf(s)[0], f, strings.Join(other, ", ")),
	}
}

// SupportedRotated is Supported for a source that was rotated: in full precision
// that is written as Ascend too.
func SupportedRotated(s Scheme, f Format) error {
	if s == BF16 && f == Ascend {
		return nil
	}
	return Supported(s, f)
}

func join[T ~string](list []T) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = string(v)
	}
	return strings.Join(parts, ", ")
}

// For returns the layout of a format.
func For(f Format) (Layout, error) {
	for _, l := range registry {
		if l.Format() == f {
			return l, nil
		}
	}
	return nil, fmt.Errorf("layout: unknown format %q", f)
}

// IsConfigFile reports whether a layout keeps a file of that name beside
// config.json: a source's own describes the source and is not copied.
func IsConfigFile(name string) bool {
	return slices.ContainsFunc(registry, func(l Layout) bool { return slices.Contains(l.ConfigFiles(), name) })
}

// HoldsWeight reports whether a tensor, by the last part of its name, holds a
// module's weight or the codes of one.
func HoldsWeight(param string) bool {
	return slices.ContainsFunc(readers(), func(l Reader) bool { return slices.Contains(l.weightParams(), param) })
}
