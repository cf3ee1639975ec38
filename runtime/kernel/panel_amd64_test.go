//go:build !purego

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/cpu"
	"github.com/glmconv/glmconv/quant/numeric"
)

type panelCase struct {
	name string
	*panelPath
}

func panelPaths(t testing.TB) (out []panelCase) {
	for _, p := range []struct {
		panelCase
		need cpu.Level
	}{{panelCase{"avx2", panelsAVX2}, cpu.AVX2}, {panelCase{"avx512", panelsAVX512}, cpu.AVX512}} {
		if p.need > cpu.Current() {
			t.Logf("this processor does not run the %s kernels", p.name)
			continue
		}
		out = append(out, p.panelCase)
	}
	return out
}

// checkInt8 requires of a product the bits of the plain dot products, for m
// tokens; extreme takes codes as far from zero as there are.
func checkInt8(t *testing.T, r *rand.Rand, what string, m int, w *numeric.Matrix, extreme bool,
	product func(y []float32, ldy int, a *Int8Rows, w *numeric.Matrix, p *Workers)) {
	t.Helper()
	n, k := w.Rows, w.Cols
	a := QuantizeInt8(normals(r, m*k), m, k, 127, nil)
	if extreme {
		for i := range a.Q {
			a.Q[i] = -128
		}
		for i := range w.Codes {
			w.Codes[i] = 0x88
		}
	}
	ldy := n + r.IntN(3)
	want, got := filled(m*ldy, 77), filled(m*ldy, 77)
	plainInt8(want, ldy, a, w)
	product(got, ldy, a, w, &Workers{N: 1 + r.IntN(3)})
	sameBits(t, want, got, fmt.Sprintf("%s m=%d n=%d k=%d block=%d code=%d", what, m, n, k, w.BlockCols, w.Code))
}

// TestPanelInt8: the panels give the bits of the plain dot products, for every
// number of tokens, width, group and kind of code, at the extremes too.
func TestPanelInt8(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, p := range panelPaths(t) {
		for turn := range 150 {
			m, n := 1+r.IntN(30), 1+r.IntN(70)
			k := 4 * (1 + r.IntN(60))
			if turn%10 == 0 {
				k = 4 * (300 + r.IntN(300))
			}
			code, block := numeric.Int8, k
			if r.IntN(2) == 0 {
				code = numeric.Int4
			}
			if r.IntN(2) == 0 {
				block = 4 * (1 + r.IntN(12))
				if k > 1000 {
					block = 4 * (30 + r.IntN(170)) // groups of less and of more than a panel
				}
			}
			w := matrix(r, code, n, k, 1, block)
			require.True(t, p.suits(max(m, panelRows, p.stored), w))
			checkInt8(t, r, p.name, m, w, turn%5 == 0, p.int8)
		}
	}
}

// plainInt8 is Int8 without vector instructions.
func plainInt8(y []float32, ldy int, a *Int8Rows, w *numeric.Matrix) {
	was := tileInt8
	tileInt8 = tileInt8Go
	defer func() { tileInt8 = was }()
	plainly(func() { int8Tiles(y, ldy, a, w, nil) })
}

func filled(n int, v float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = v
	}
	return x
}

// TestPanelF32: every path is as close to the plain kernel as float32 allows,
// the same to the bit among paths, blocks and cuts of k, and touches nothing
// beside its block.
func TestPanelF32(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for turn := range 200 {
		m, n, k := 1+r.IntN(27), 1+r.IntN(80), 1+r.IntN(150)
		ldx, ldw, ldy := k+r.IntN(3), n+r.IntN(3), n+r.IntN(3)
		x, w := normals(r, m*ldx), normals(r, k*ldw)
		start := normals(r, m*ldy)
		clone := func() []float32 { return append([]float32(nil), start...) }
		for _, add := range []bool{false, true} {
			want := clone()
			panelF32Go(want, ldy, x, ldx, w, ldw, m, n, k, add)
			var first []float32
			for _, p := range panelPaths(t) {
				got := clone()
				p.f32(got, ldy, x, ldx, w, ldw, m, n, k, add)
				for i := range got {
					if i%ldy >= n {
						require.Equal(t, start[i], got[i])
					} else {
						require.InDelta(t, want[i], got[i], 1e-4)
					}
				}
				what := fmt.Sprintf("%s turn %d m=%d n=%d k=%d", p.name, turn, m, n, k)
				if first != nil {
					sameBits(t, first, got, what)
				}
				first = got
				cut := clone()
				c := r.IntN(k)
				if c > 0 {
					p.f32(cut, ldy, x, ldx, w, ldw, m, n, c, add)
				}
				p.f32(cut, ldy, x[c:], ldx, w[c*ldw:], ldw, m, n, k-c, add || c > 0)
				sameBits(t, got, cut, what+" cut")
				i := r.IntN(m)
				one := append([]float32(nil), start[i*ldy:][:n]...)
				p.f32(one, n, x[i*ldx:], ldx, w, ldw, 1, n, k, add)
				sameBits(t, got[i*ldy:][:n], one, what+" one row")
			}
		}
	}
	assert.Panics(t, func() { PanelF32(make([]float32, 7), 4, make([]float32, 8), 4, make([]float32, 16), 4, 2, 4, 4, false) })
	assert.Panics(t, func() { PanelF32(make([]float32, 8), 4, make([]float32, 8), 4, make([]float32, 15), 4, 2, 4, 4, false) })
}

func TestTranspose(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	was, tiles := panels, tiled
	tiled = false
	defer func() { panels, tiled = was, tiles }()
	for _, p := range panelPaths(t) {
		panels = p.panelPath
		for range 200 {
			rows, cols := 1+r.IntN(40), 1+r.IntN(70)
			lds, ldd := cols+r.IntN(3), rows+r.IntN(3)
			src, dst := normals(r, rows*lds), filled(cols*ldd, 77)
			Transpose(dst, ldd, src, lds, rows, cols)
			for i, v := range dst {
				if c, j := i/ldd, i%ldd; j < rows {
					require.Equal(t, src[j*lds+c], v, "%d × %d", rows, cols)
				} else {
					require.EqualValues(t, 77, v)
				}
			}
		}
	}
}

func FuzzPanelInt8(f *testing.F) {
	f.Add(uint64(1), uint8(5), uint8(33), uint8(17), uint8(4), false)
	f.Add(uint64(2), uint8(13), uint8(7), uint8(40), uint8(0), true)
	f.Fuzz(func(t *testing.T, seed uint64, m, n, steps, block uint8, int4 bool) {
		r := rand.New(rand.NewPCG(seed, 1))
		k := 4 * (1 + int(steps))
		code, bc := numeric.Int8, k
		if int4 {
			code = numeric.Int4
		}
		if block > 0 {
			bc = min(k, 4*int(block))
		}
		rows, cols := 1+int(m%40), 1+int(n%100)
		w := matrix(r, code, cols, k, 1, bc)
		a := QuantizeInt8(odd(r, rows*k), rows, k, 127, nil)
		want := make([]float32, rows*cols)
		plainInt8(want, cols, a, w)
		for _, p := range panelPaths(t) {
			got := make([]float32, rows*cols)
			p.int8(got, cols, a, w, nil)
			sameBits(t, want, got, p.name)
		}
	})
}

// BenchmarkInt8 is an expert's projection, from memory: each turn has weights
// of its own.
func BenchmarkInt8(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, k, copies = 1408, 4096, 4
	was, tiles := panels, tiled
	tiled = false
	defer func() { panels, tiled = was, tiles }()
	for _, c := range []struct {
		name  string
		code  numeric.Code
		block int
	}{{"int8", numeric.Int8, k}, {"int4 channel", numeric.Int4, k}, {"int4 group 128", numeric.Int4, 128}} {
		var w []*numeric.Matrix
		for range copies {
			w = append(w, matrix(r, c.code, n, k, 1, c.block))
		}
		for _, p := range panelPaths(b) {
			for _, m := range []int{8, 32, 64, 256} {
				x := normals(r, m*k)
				y := make([]float32, m*n)
				a := QuantizeInt8(x, m, k, 127, nil)
				b.Run(fmt.Sprintf("%s/%s/M=%d", c.name, p.name, m), func(b *testing.B) {
					panels = p.panelPath
					for i := 0; b.Loop(); i++ {
						Int8(y, n, a, w[i%copies], nil)
					}
					b.ReportMetric(float64(b.N)*float64(m)*n*k/b.Elapsed().Seconds()/1e9, "GMAC/s")
				})
			}
		}
	}
}

// TestFloatPanels: the products on panels are as close to exact sums as the
// plain ones, the same to the bit on every path and for every number of tokens,
// and codes that are no number stay so.
func TestFloatPanels(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	was, tiles := panels, tiled
	tiled = false
	defer func() { panels, tiled = was, tiles }()
	for turn := range 120 {
		m, n, k := 1+r.IntN(20), 1+r.IntN(90), 1+r.IntN(400)
		x := normals(r, m*k)
		var run func(y []float32, x []float32, m int)
		kinds := []string{"bf16", "f16", "f32", "e4m3", "e4m3 block", "int4 e4m3", "int4 weight only", "int8 weight only", "e4m3 weight only"}
		kind := kinds[turn%len(kinds)]
		switch kind {
		case "bf16", "f16", "f32":
			typ := map[string]FloatType{"bf16": BF16, "f16": F16, "f32": F32}[kind]
			raw := make([]byte, n*k*typ.Size())
			for i, v := range normals(r, n*k) {
				switch typ {
				case BF16:
					copy(raw[2*i:], numeric.AppendBF16(nil, []float32{v}))
				case F16:
					h := numeric.F32ToF16(v)
					raw[2*i], raw[2*i+1] = byte(h), byte(h>>8)
				default:
					copy(raw[4*i:], numeric.AppendF32(nil, []float32{v}))
				}
			}
			run = func(y, x []float32, m int) { Float(y, n, x, m, typ, raw, n, k, &Workers{N: 2}) }
		case "e4m3", "e4m3 block":
			w, group := matrix(r, numeric.E4M3, n, k, 1, k), 0
			if kind != "e4m3" {
				w, group = matrix(r, numeric.E4M3, n, k, 16, 32), 32
			}
			if r.IntN(3) == 0 {
				w.Codes[r.IntN(len(w.Codes))] = 0x7f | byte(r.IntN(2))<<7
			}
			run = func(y, x []float32, m int) { E4M3(y, n, QuantizeE4M3(x, m, k, group, nil), w, &Workers{N: 2}) }
		case "int8 weight only", "e4m3 weight only":
			code := numeric.Int8
			if kind != "int8 weight only" {
				code = numeric.E4M3
			}
			w := matrix(r, code, n, k, 16, []int{k, 32}[r.IntN(2)])
			run = func(y, x []float32, m int) { WeightOnly(y, n, x, m, w, &Workers{N: 2}) }
		default:
			k += k % 2
			x = normals(r, m*k)
			w := matrix(r, numeric.Int4, n, k, 1, []int{k, 32, 128}[r.IntN(3)])
			run = func(y, x []float32, m int) { WeightOnly(y, n, x, m, w, &Workers{N: 2}) }
			if kind == "int4 e4m3" {
				run = func(y, x []float32, m int) { E4M3(y, n, QuantizeE4M3(x, m, k, 0, nil), w, nil) }
			}
		}
		panels = nil
		want := make([]float32, m*n)
		run(want, x, m)
		var first []float32
		for _, p := range panelPaths(t) {
			panels = p.panelPath
			got, one := make([]float32, m*n), make([]float32, n)
			run(got, x, m)
			what := fmt.Sprintf("%s %s m=%d n=%d k=%d", kind, p.name, m, n, k)
			for i := range got {
				if want[i] != want[i] {
					require.True(t, got[i] != got[i], what)
					continue
				}
				require.InDelta(t, want[i], got[i], 1e-4*(1+math.Abs(float64(want[i]))), what)
			}
			if first != nil {
				sameBits(t, first, got, what)
			}
			first = got
			i := r.IntN(m)
			run(one, x[i*k:][:k], 1)
			sameBits(t, got[i*n:][:n], one, what+" one token")
		}
	}
}

// TestZeroSums: where sums are 0, a negative scale gives −0 whether a group fits
// in a panel or not, and on every path.
func TestZeroSums(t *testing.T) {
	was, tiles := panels, tiled
	tiled = false
	defer func() { panels, tiled = was, tiles }()
	r := rand.New(rand.NewPCG(9, 10))
	const m, n, k = 5, 40, 1024
	for _, p := range panelPaths(t) {
		panels = p.panelPath
		for _, group := range []int{128, 512, k} {
			w := matrix(r, numeric.E4M3, n, k, 1, group)
			for i := range w.Scales {
				w.Scales[i] = -w.Scales[i]
			}
			y := make([]float32, m*n)
			E4M3(y, n, QuantizeE4M3(make([]float32, m*k), m, k, 0, nil), w, nil)
			for i, v := range y {
				require.Equal(t, uint32(1<<31), math.Float32bits(v), "%s, groups of %d, element %d", p.name, group, i)
			}
		}
	}
}

// TestPanelWeightOnly: codes widened in panels give the bits of the product with
// the weight widened before, for every format, group, width and number of tokens.
func TestPanelWeightOnly(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, p := range panelPaths(t) {
		for range 200 {
			m, n, block := 1+r.IntN(20), 1+r.IntN(90), []int{16, 32, 48, 5}[r.IntN(4)]
			k := []int{1 + r.IntN(70), 16 * (1 + r.IntN(90)), 32 * (1 + r.IntN(40))}[r.IntN(3)]
			code := []numeric.Code{numeric.E2M1, numeric.E2M1, numeric.E4M3, numeric.Int8}[r.IntN(4)]
			w := matrix(r, code, n, k, 1, min(block, k))
			wide, x := make([]float32, n*k), normals(r, m*k)
			w.Dequant(wide, 0, n)
			want, got := make([]float32, m*n), make([]float32, m*n)
			p.float(want, n, x, m, F32, numeric.AppendF32(nil, wide), n, k, nil)
			p.weightOnly(got, n, x, m, w, &Workers{N: 1 + r.IntN(3)})
			sameBits(t, want, got, fmt.Sprintf("%s m=%d n=%d k=%d block=%d code=%d", p.name, m, n, k, w.BlockCols, code))
		}
	}
}
