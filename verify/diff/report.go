package diff

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/safetext"
)

// Schema names the JSON form of a Report.
const Schema = "glmconv.diff/1"

// Side is a tensor as one of the two checkpoints stores it.
type Side struct {
	DType string  `json:"dtype"`
	Shape []int64 `json:"shape"`
	File  string  `json:"file"`
}

// Tensor is a tensor that is not the same on both sides.
type Tensor struct {
	Name string `json:"name"`
	A    *Side  `json:"a,omitempty"`
	B    *Side  `json:"b,omitempty"`
	// Same: stored in two types of float, the numbers are the same.
	Same bool `json:"same_values,omitempty"`
	// CopyOf is the tensor of A that this one is a copy of, bit for bit, where it
	// is one of the MTP layer's copies that B lacks.
	CopyOf string `json:"copy_of,omitempty"`
	// Parts are the modules that a stacked expert tensor of A consists of.
	Parts []string `json:"-"`
}

// Module is a weight whose stored form differs, with the difference of its
// values.
type Module struct {
	Name     string `json:"name"`
	A        Form   `json:"a"`
	B        Form   `json:"b"`
	Relative Figure `json:"relative_rms"` // √(Σ(b−a)²/Σa²); +Inf if a is all zero and b is not
	MaxAbs   Figure `json:"max_abs"`
	Elements int64  `json:"elements"`
	Own      *Own   `json:"own,omitempty"`
	Grid     *Grid  `json:"grid,omitempty"` // of a quantized weight of B without Own, if asked for
	// Unrounded counts the values of B, where A is quantized and B holds values,
	// that are not A's rounded once to B's type.
	Unrounded int64  `json:"unrounded,omitempty"`
	Why       string `json:"why,omitempty"` // why there are no figures
}

// Own compares with a rounding of A that was made for the purpose.
type Own struct {
	Relative Figure `json:"relative_rms"` // its error √(Σ(own−a)²/Σa²)
	Off      Figure `json:"off_rms"`      // √(Σ(b−own)²/Σown²): 0 if B is that rounding
}

// Figure is a float64 that JSON can carry: NaN and infinities become null.
type Figure float64

// MarshalJSON writes the number, or null if it is none.
func (f Figure) MarshalJSON() ([]byte, error) {
	if v := float64(f); math.IsNaN(v) || math.IsInf(v, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// Report is the result of Run.
type Report struct {
	Schema    string   `json:"schema"`
	DirA      string   `json:"a"`
	DirB      string   `json:"b"`
	Different bool     `json:"different"`
	Same      int      `json:"same"` // tensors with the same name, type, shape and bytes
	Agreed    []Agreed `json:"-"`    // the same by files of B
	Layers    []Agreed `json:"-"`    // weights of [LeastOfWeight] elements and more that are the same, by layers
	Added     []Tensor `json:"added"`
	Removed   []Tensor `json:"removed"`
	Reshaped  []Tensor `json:"reshaped"`
	Retyped   []Tensor `json:"retyped"`
	Changed   []Tensor `json:"changed"`
	Modules   []Module `json:"modules"` // worst first
	Files     []File   `json:"files"`
	NonFinite []string `json:"non_finite,omitempty"` // tensors of B with NaN or infinity, if asked for
	Bytes     int64    `json:"bytes_read"`
}

// LeastOfWeight is from how many elements on a tensor is a weight that tells
// something: gains of norms are all alike.
const LeastOfWeight = 512

// Agreed counts what of one file or layer of B is A's, bit for bit.
type Agreed struct {
	In       string // name of the file, prefix of the layer's names
	Tensors  int
	Elements int64
}

// File is a file beside the weights that differs.
type File struct {
	Name   string `json:"name"`
	Change string `json:"change"` // "added", "removed", "changed"
}

func (r *Report) finish() {
	for _, list := range []*[]Tensor{&r.Added, &r.Removed, &r.Reshaped, &r.Retyped, &r.Changed} {
		if *list == nil {
			*list = []Tensor{}
		}
		slices.SortFunc(*list, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	}
	if r.Modules == nil {
		r.Modules = []Module{}
	}
	if r.Files == nil {
		r.Files = []File{}
	}
	slices.SortFunc(r.Modules, func(a, b Module) int {
		return cmp.Or(cmp.Compare(rank(b), rank(a)), strings.Compare(a.Name, b.Name))
	})
	slices.Sort(r.NonFinite)
	for _, list := range [][]Agreed{r.Agreed, r.Layers} {
		slices.SortFunc(list, func(a, b Agreed) int { return strings.Compare(a.In, b.In) })
	}
	r.Different = len(r.Added)+len(r.Removed)+len(r.Reshaped)+len(r.Retyped)+len(r.Changed)+len(r.Files) > 0
}

// rank orders modules: those without figures first, then by error.
func rank(m Module) float64 {
	if m.Why != "" || math.IsNaN(float64(m.Relative)) {
		return math.Inf(1)
	}
	return float64(m.Relative)
}

// Text prints the report for a person.
func (r *Report) Text() string {
	var b strings.Builder
	if !r.Different {
		fmt.Fprintf(&b, "SAME  %d tensors, bit for bit\n", r.Same)
		return b.String()
	}
	fmt.Fprintf(&b, "DIFFERENT  %d tensors same, %d changed, %d retyped, %d reshaped, %d added, %d removed\n",
		r.Same, len(r.Changed), len(r.Retyped), len(r.Reshaped), len(r.Added), len(r.Removed))
	for _, l := range []struct {
		mark string
		list []Tensor
	}{{"-", r.Removed}, {"+", r.Added}, {"shape", r.Reshaped}, {"type", r.Retyped}, {"bytes", r.Changed}} {
		listTensors(&b, l.mark, l.list)
	}
	if len(r.Modules) > 0 {
		b.WriteString("\n  weights, worst first                                         relative RMS      max\n")
		for i, m := range r.Modules {
			if i == 20 {
				fmt.Fprintf(&b, "  … and %d more\n", len(r.Modules)-i)
				break
			}
			if m.Why != "" {
				fmt.Fprintf(&b, "  %-58s  %s\n", safetext.Line(m.Name), safetext.Line(m.Why))
				continue
			}
			fmt.Fprintf(&b, "  %-58s  %11.3g  %10.3g  %s → %s\n", safetext.Line(m.Name), float64(m.Relative), float64(m.MaxAbs), m.A, m.B)
		}
	}
	for _, f := range r.Files {
		fmt.Fprintf(&b, "  file %s: %s\n", safetext.Line(f.Name), f.Change)
	}
	return b.String()
}

func listTensors(b *strings.Builder, mark string, list []Tensor) {
	const few = 8
	for i, t := range list {
		if i == few {
			fmt.Fprintf(b, "  %-6s … and %d more\n", mark, len(list)-few)
			return
		}
		switch {
		case t.A == nil:
			fmt.Fprintf(b, "  %-6s %s  %s %v\n", mark, safetext.Line(t.Name), t.B.DType, t.B.Shape)
		case t.B == nil:
			fmt.Fprintf(b, "  %-6s %s  %s %v\n", mark, safetext.Line(t.Name), t.A.DType, t.A.Shape)
		default:
			fmt.Fprintf(b, "  %-6s %s  %s %v → %s %v\n", mark, safetext.Line(t.Name), t.A.DType, t.A.Shape, t.B.DType, t.B.Shape)
		}
	}
}
