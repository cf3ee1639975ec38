package mutate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// ofRounding are faults of the way that every weight was rounded. Nothing about
// a single weight looks wrong, and a result without a manifest says nothing of
// its arithmetic.
func ofRounding() []Fault {
	const says = "_proj"
	scales := func(k float64) Fault {
		return Fault{Name: fmt.Sprintf("all scales times %g", k), Says: []string{says}, Bare: true, Apply: onSet(func(s Set) bool {
			hit := false
			for _, n := range s.Names(func(n string) bool {
				return strings.Contains(n, ".weight_scale") || strings.HasSuffix(n, ".scale_bias")
			}) {
				hit = s[n].each(func(v float64) float64 { return v * k }) || hit
			}
			return hit
		})}
	}
	codes := func(name string, fn func(u float64, g *grid) float64) Fault {
		return Fault{Name: name, Says: []string{says}, Bare: true, Apply: roundedAs(func(u, top float64, g *grid) float64 {
			if math.Abs(u) > 0.999*top {
				return u // the scale stays
			}
			return fn(u, g)
		})}
	}
	bytes := func(name string, dtype safetensors.DType, fn func(b byte) byte, scale float64) Fault {
		return Fault{Name: name, Says: []string{says}, Bare: true, Apply: onSet(func(s Set) bool {
			hit := false
			for _, n := range s.Names(func(n string) bool { return strings.HasSuffix(n, ".weight") && s[n].DType == dtype }) {
				t := s[n]
				sc := s[n+"_scale"]
				if sc == nil || len(sc.Shape) == 2 && sc.Shape[1] > 1 && dtype == safetensors.I8 || s[strings.TrimSuffix(n, "weight")+"scale_bias"] != nil {
					continue // int4
				}
				for i, b := range t.Data {
					t.Data[i] = fn(b)
				}
				sc.each(func(v float64) float64 { return v * scale })
				hit = true
			}
			return hit
		})}
	}
	noise := func(share float64) Fault {
		return Fault{Name: fmt.Sprintf("noise of %g %%", 100*share), Says: []string{says}, Bare: true, Apply: func(m Made) (bool, error) {
			rng := rand.New(rand.NewPCG(11, 12))
			return roundedAs(func(u, _ float64, _ *grid) float64 { return u * (1 + share*rng.NormFloat64()) })(m)
		}}
	}
	jitter := func(steps float64) Fault {
		return Fault{Name: fmt.Sprintf("noise of %g steps", steps), Says: []string{says}, Bare: true, Apply: func(m Made) (bool, error) {
			rng := rand.New(rand.NewPCG(13, 14))
			return roundedAs(func(u, _ float64, g *grid) float64 {
				lo, hi := g.around(u)
				return u + steps*(hi-lo)*rng.NormFloat64()
			})(m)
		}}
	}
	by := func(n float64) func(b byte) byte {
		return func(b byte) byte { return byte(int8(math.RoundToEven(float64(int8(b)) / n))) }
	}
	return []Fault{
		scales(1.03), scales(1.1), scales(0.97), scales(0.9), scales(2),
		codes("codes cut off", func(u float64, g *grid) float64 { lo, hi := g.around(u); return smaller(lo, hi) }),
		codes("codes rounded away from zero", func(u float64, g *grid) float64 { lo, hi := g.around(u); return larger(lo, hi) }),
		codes("codes rounded down", func(u float64, g *grid) float64 { lo, _ := g.around(u); return lo }),
		codes("codes of half as many steps", func(u float64, g *grid) float64 {
			lo, hi := g.coarse(u)
			if u-lo < hi-u {
				return lo
			}
			return hi
		}),
		bytes("six bits in eight", safetensors.I8, by(4), 4),
		bytes("seven bits in eight", safetensors.I8, by(2), 2),
		bytes("multiples of four", safetensors.I8, func(b byte) byte { return byte(int8(max(-124, min(124, 4*math.RoundToEven(float64(int8(b))/4))))) }, 1),
		bytes("a mantissa of two bits", safetensors.F8E4M3, func(b byte) byte { return b &^ 1 }, 1),
		noise(0.02), noise(0.05), noise(0.1), noise(0.15), noise(0.2), jitter(0.1), jitter(0.3),
	}
}

// sameRounding are codes that no rounding of the source gives, and that are
// right: methods learn them from data.
func sameRounding() []Fault {
	return []Fault{{Name: "codes learnt from data", Bare: true, Apply: learntCodes}}
}

// learntCodes are codes as GPTQ takes them for inputs of which neighbours go
// together: what one column is off, the next one makes up for in part. They are
// not made of E4M3: what a large value is off is many steps of a small
// neighbour, and no method makes up for it so.
func learntCodes(m Made) (bool, error) {
	made, err := quant.ReadManifest(m.Dir)
	if err != nil {
		return false, fmt.Errorf("mutate: %w", err)
	}
	if slices.Contains([]layout.Scheme{layout.FP8, layout.FP8Block, layout.MXFP8, layout.MXFP8A16}, made.Scheme) || made.Rest == layout.RestFP8 {
		return false, nil
	}
	tmp, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return false, fmt.Errorf("mutate: %w", err)
	}
	defer os.RemoveAll(tmp)
	dst := filepath.Join(tmp, "dst") // with scales that come from a maximum, which stay
	if err := errors.Join(convertDir(m.Source, dst, made), takeOver(m.Dir, dst)); err != nil {
		return false, err
	}
	carry := 0.0
	return roundedAs(func(u, top float64, g *grid) float64 {
		if math.Abs(u) > 0.999*top {
			return u // the scale stays
		}
		lo, hi := g.around(u + carry)
		q := lo
		if hi-u-carry < u+carry-lo {
			q = hi
		}
		carry = 0.5 * (u + carry - q)
		return q
	})(m)
}

func smaller(a, b float64) float64 {
	if math.Abs(a) <= math.Abs(b) {
		return a
	}
	return b
}

func larger(a, b float64) float64 {
	if math.Abs(a) <= math.Abs(b) {
		return b
	}
	return a
}

// grid are the numbers that codes stand for, in order.
type grid struct{ values []float64 }

func gridOf(c numeric.Code) *grid {
	n := 1 << c.Bits()
	m := numeric.Matrix{Code: c, Rows: 1, Cols: n, BlockRows: 1, BlockCols: n, Scales: []float32{1}}
	for i := range n {
		switch {
		case c.Bits() != 4:
			m.Codes = append(m.Codes, byte(i))
		case i%2 == 0:
			m.Codes = append(m.Codes, byte(i)|byte(i+1)<<4)
		}
	}
	v := make([]float32, n)
	m.Dequant(v, 0, 1)
	g := &grid{}
	for _, x := range v {
		if x == x {
			g.values = append(g.values, float64(x))
		}
	}
	slices.Sort(g.values)
	g.values = slices.Compact(g.values)
	return g
}

// around are the neighbours of u.
func (g *grid) around(u float64) (lo, hi float64) { return neighbours(g.values, u) }

// coarse are its neighbours among every second value.
func (g *grid) coarse(u float64) (lo, hi float64) {
	var half []float64
	zero, _ := slices.BinarySearch(g.values, 0)
	for i, v := range g.values {
		if (i-zero)%2 == 0 {
			half = append(half, v)
		}
	}
	return neighbours(half, u)
}

func neighbours(values []float64, u float64) (lo, hi float64) {
	i, _ := slices.BinarySearch(values, u)
	i = max(1, min(i, len(values)-1))
	return values[i-1], values[i]
}

// roundedAs makes the result anew from a source whose weights are what fn makes
// of them, in units of the scales that the result has; top is the largest below
// the same scale. Nearest rounding of these is what a faulty one is of the
// source's.
func roundedAs(fn func(u, top float64, g *grid) float64) func(Made) (bool, error) {
	return func(m Made) (bool, error) {
		made, err := quant.ReadManifest(m.Dir)
		if err != nil {
			return false, fmt.Errorf("mutate: %w", err)
		}
		tmp, err := os.MkdirTemp("", "mutate-")
		if err != nil {
			return false, fmt.Errorf("mutate: %w", err)
		}
		defer os.RemoveAll(tmp)
		src, dst := filepath.Join(tmp, "src"), filepath.Join(tmp, "dst")
		if err := os.CopyFS(src, os.DirFS(m.Source)); err != nil {
			return false, fmt.Errorf("mutate: %w", err)
		}
		c, err := safetensors.OpenDir(m.Dir)
		if err != nil {
			return false, fmt.Errorf("mutate: %w", err)
		}
		defer c.Close()
		cfg, err := glm.LoadConfig(m.Dir)
		if err != nil {
			return false, err
		}
		hints := hintsOf(c, cfg)
		if hit, err := Edit(src, func(s Set) (bool, error) { return s.remake(c, hints, fn) }); !hit || err != nil {
			return false, err
		}
		if err := convertDir(src, dst, made); err != nil {
			return false, err
		}
		return true, takeOver(m.Dir, dst)
	}
}

// hintsOf reads the declaration; without one, several scales a row are those of
// int4 groups.
func hintsOf(c *safetensors.Checkpoint, cfg *glm.Config) layout.Hints {
	var said *declaration.Declaration
	if cfg.QuantizationConfig != nil {
		if d, err := declaration.Config(cfg.QuantizationConfig); err == nil {
			said = d
		}
	}
	return layout.Hints{Declared: func(module string) format.Weight {
		if said != nil {
			return said.Of(module).Weights()
		}
		if x, ok := c.Info(module + ".weight_scale"); ok && len(x.Shape) == 2 && x.Shape[1] > 1 {
			return format.Int4(0)
		}
		return format.Int8
	}}
}

// remake changes every weight that c has codes of.
func (s Set) remake(c *safetensors.Checkpoint, h layout.Hints, fn func(u, top float64, g *grid) float64) (hit bool, err error) {
	for _, name := range s.Names(func(n string) bool { return strings.HasSuffix(n, ".weight") }) {
		stored, err := layout.Lookup(c, strings.TrimSuffix(name, ".weight"), h)
		if err != nil || !stored.Quantized() {
			continue
		}
		m, err := layout.Read(c, stored)
		if err != nil {
			return false, err
		}
		t, g := s[name], gridOf(stored.Code())
		if int64(m.Rows) != t.Shape[0] || int64(m.Cols) != t.Shape[1] || t.DType != safetensors.BF16 {
			return false, errors.New("mutate: " + name + " has another shape than its codes")
		}
		at := func(i int) int { return i/m.Cols/m.BlockRows*m.ScaleCols() + i%m.Cols/m.BlockCols }
		top, i := make([]float64, len(m.Scales)), 0
		t.each(func(v float64) float64 {
			top[at(i)] = max(top[at(i)], math.Abs(v/float64(m.Scales[at(i)])))
			i++
			return v
		})
		i = 0
		hit = t.each(func(v float64) float64 {
			k, scale := at(i), float64(m.Scales[at(i)])
			if i++; scale == 0 {
				return v
			}
			u := v / scale
			if w := fn(u, top[k], g); w != u {
				return w * scale
			}
			return v
		}) || hit
	}
	return hit, nil
}

func convertDir(src, dst string, made *quant.Manifest) error {
	c, err := safetensors.OpenDir(src)
	if err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	defer c.Close()
	arith := numeric.Compat
	if made.Format == layout.Ascend && made.Scheme.Micro() {
		arith = numeric.Best // no other is written there
	}
	plan, err := quant.NewPlan(c, made.Scheme, made.Format, quant.Options{GroupSize: made.GroupSize, MTP: layout.MTPMode(made.MTP), Rest: made.Rest, Inputs: made.Inputs, Arith: arith})
	if err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	_, err = convert.Run(context.Background(), plan, c, dst, convert.Options{Workers: 1, Version: "test"})
	return err
}

// takeOver puts the files of from in the place of those of dir.
func takeOver(dir, from string) error {
	old, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	for _, e := range old {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("mutate: %w", err)
		}
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	return nil
}
