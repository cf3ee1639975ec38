package layout

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// Schemes lists the schemes in the order of the documentation.
var Schemes = []Scheme{FP8, FP8Block, W8A8, W4A8, W4A16, W4A8FP8}

// Formats lists the formats.
var Formats = []Format{CompressedTensors, HFFP8, Ascend}

// cells is the table of possible scheme × format pairs; the first format is
// the default.
var cells = map[Scheme][]Format{
	FP8:      {CompressedTensors},
	FP8Block: {HFFP8, CompressedTensors},
	W8A8:     {CompressedTensors, Ascend},
	W4A8:     {Ascend, CompressedTensors},
	W4A16:    {CompressedTensors},
	W4A8FP8:  {CompressedTensors},
}

// ImpossibleError says that a scheme, format, family or dimension do not go
// together, by which rule, and what does.
type ImpossibleError struct {
	What    string
	Rule    string
	Nearest string
}

func (e *ImpossibleError) Error() string { return e.What + ": " + e.Rule }

// Hint names the nearest pair that works.
func (e *ImpossibleError) Hint() string { return e.Nearest }

// ExitCode is that of wrong usage: nothing is wrong with the input.
func (e *ImpossibleError) ExitCode() int { return 2 }

// ParseScheme reads a value of --scheme.
func ParseScheme(s string) (Scheme, error) {
	for _, v := range Schemes {
		if string(v) == s {
			return v, nil
		}
	}
	return "", &ImpossibleError{What: fmt.Sprintf("unknown scheme %q", s), Rule: "the schemes are " + join(Schemes), Nearest: "--scheme w8a8 or --scheme fp8 fit most machines"}
}

// ParseFormat reads a value of --format; "" stays "".
func ParseFormat(s string) (Format, error) {
	for _, v := range Formats {
		if string(v) == s || s == "" {
			return Format(s), nil
		}
	}
	return "", &ImpossibleError{What: fmt.Sprintf("unknown format %q", s), Rule: "the formats are " + join(Formats), Nearest: "leave --format out for the scheme's default"}
}

// DefaultFormat returns the format a scheme takes for a model when none is
// asked for.
func DefaultFormat(s Scheme, cfg *glm.Config) Format {
	if s == W8A8 && cfg.SparseAttention() {
		return Ascend // no GPU of the INT8 generation has kernels for sparse attention
	}
	return cells[s][0]
}

// Supported returns nil if the pair is possible, else an *ImpossibleError.
func Supported(s Scheme, f Format) error {
	for _, g := range cells[s] {
		if f == g {
			return nil
		}
	}
	var other []string
	for _, t := range Schemes {
		for _, g := range cells[t] {
			if g == f {
				other = append(other, string(t))
			}
		}
	}
	return &ImpossibleError{
		What:    fmt.Sprintf("%s cannot be written as %s", s, f),
		Rule:    "no engine reads that pair; " + string(s) + " exists as " + join(cells[s]),
		Nearest: fmt.Sprintf("--scheme %s --format %s, or with --format %s: --scheme %s", s, cells[s][0], f, strings.Join(other, ", ")),
	}
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
	switch f {
	case CompressedTensors:
		return compressedTensors{}, nil
	case HFFP8:
		return hfFP8{}, nil
	case Ascend:
		return ascend{}, nil
	}
	return nil, fmt.Errorf("layout: unknown format %q", f)
}
