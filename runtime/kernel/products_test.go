package kernel

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/numeric"
)

// product is one of the products, by name.
type product struct {
	name string
	run  func(y []float32, ldy int, x []float32, m int, w *Workers)
	// want is Σ x̂·ŵ in float64 with quantised activations.
	want       func(x []float32, i, j int) (sum, size float64)
	rows, cols int
}

func products(r *rand.Rand) (out []product) {
	weight := func(m *numeric.Matrix, i, k int) float64 { return float64(m.Value(i, k)) * float64(m.Scale(i, k)) }
	add := func(name string, m *numeric.Matrix, run func(y []float32, ldy int, x []float32, n int, w *Workers), act func(x []float32, i, k int) float64) {
		out = append(out, product{name, run, func(x []float32, i, j int) (sum, size float64) {
			for k := range m.Cols {
				p := act(x, i, k) * weight(m, j, k)
				sum += p
				size += math.Abs(p)
			}
			return sum, size
		}, m.Rows, m.Cols})
	}
	for _, c := range []struct {
		name string
		m    *numeric.Matrix
	}{
		{"int8 channel", matrix(r, numeric.Int8, 21, 67, 1, 67)},
		{"int4 channel", matrix(r, numeric.Int4, 21, 67, 1, 67)},
		{"int4 group", matrix(r, numeric.Int4, 19, 96, 1, 32)},
	} {
		m := c.m
		add(c.name, m, func(y []float32, ldy int, x []float32, n int, w *Workers) {
			Int8(y, ldy, QuantizeInt8(x, n, m.Cols, 127, nil), m, w)
		}, func(x []float32, i, k int) float64 {
			a := QuantizeInt8(x[i*m.Cols:][:m.Cols], 1, m.Cols, 127, nil)
			return float64(a.Q[k]) * float64(a.Scale[0])
		})
	}
	for _, c := range []struct {
		name  string
		m     *numeric.Matrix
		group int
	}{
		{"fp8 channel", matrix(r, numeric.E4M3, 21, 67, 1, 67), 0},
		{"fp8 block", matrix(r, numeric.E4M3, 35, 43, 16, 16), 16},
		{"int4 group fp8", matrix(r, numeric.Int4, 19, 96, 1, 32), 0},
	} {
		m := c.m
		add(c.name, m, func(y []float32, ldy int, x []float32, n int, w *Workers) {
			E4M3(y, ldy, QuantizeE4M3(x, n, m.Cols, c.group, nil), m, w)
		}, func(x []float32, i, k int) float64 {
			a := QuantizeE4M3(x[i*m.Cols:][:m.Cols], 1, m.Cols, c.group, nil)
			return float64(a.V[k]) * float64(a.Scale[k/a.Group])
		})
	}
	for _, c := range []struct {
		name string
		m    *numeric.Matrix
	}{
		{"int4 weight only", matrix(r, numeric.Int4, 19, 96, 1, 32)},
		{"int8 weight only", matrix(r, numeric.Int8, 21, 67, 1, 67)},
		{"fp8 weight only", matrix(r, numeric.E4M3, 35, 43, 16, 16)},
		{"nvfp4 weight only", matrix(r, numeric.E2M1, 35, 1168, 1, 16)},
		{"mxfp4 weight only", matrix(r, numeric.E2M1, 67, 1056, 1, 32)},
		{"fp4 with a broken group", matrix(r, numeric.E2M1, 19, 91, 1, 16)},
		{"mxfp8 weight only", matrix(r, numeric.E4M3, 35, 1056, 1, 32)},
	} {
		m := c.m
		add(c.name, m, func(y []float32, ldy int, x []float32, n int, w *Workers) { WeightOnly(y, ldy, x, n, m, w) },
			func(x []float32, i, k int) float64 { return float64(x[i*m.Cols+k]) })
	}
	for typ, name := range map[FloatType]string{BF16: "bf16", F32: "f32"} {
		f := normals(r, 23*45)
		raw := numeric.AppendF32(nil, f)
		if typ == BF16 {
			raw = numeric.AppendBF16(nil, f)
			for i := range f {
				f[i] = numeric.RoundBF16(f[i])
			}
		}
		out = append(out, product{name, func(y []float32, ldy int, x []float32, n int, w *Workers) { Float(y, ldy, x, n, typ, raw, 23, 45, w) },
			func(x []float32, i, j int) (sum, size float64) {
				for k := range 45 {
					p := float64(x[i*45+k]) * float64(f[j*45+k])
					sum += p
					size += math.Abs(p)
				}
				return sum, size
			}, 23, 45})
	}
	return out
}

func TestProducts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, p := range products(r) {
		t.Run(p.name, func(t *testing.T) {
			const m = 9
			x := normals(r, m*p.cols)
			clear(x[2*p.cols:][:p.cols]) // a row of zeros
			ldy := p.rows + 3
			y := make([]float32, m*ldy)
			p.run(y, ldy, x, m, nil)
			for i := range m {
				for j := range p.rows {
					want, size := p.want(x, i, j)
					require.InDelta(t, want, float64(y[i*ldy+j]), 1e-5*size+1e-12, "%d,%d", i, j)
				}
				require.Zero(t, y[i*ldy+p.rows], "nothing is written beside the rows")
			}
			// One row alone, and several threads, give the same bits.
			one := make([]float32, p.rows)
			for i := range m {
				p.run(one, p.rows, x[i*p.cols:][:p.cols], 1, nil)
				require.Equal(t, y[i*ldy:][:p.rows], one, "row %d", i)
			}
			z := make([]float32, m*ldy)
			for n := 1; n <= 4; n++ {
				p.run(z, ldy, x, m, &Workers{N: n})
				require.Equal(t, y, z, "%d threads", n)
			}
		})
	}
}
