//go:build !purego

package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/numeric"
)

// flushed is x, and 0 for a subnormal number.
func flushed(x float32) float32 {
	if x != 0 && math.Abs(float64(x)) < 0x1p-126 {
		return float32(math.Copysign(0, float64(x)))
	}
	return x
}

// tileChain adds the products of a step to sum in the order of the tiles, which
// round sums and not products.
func tileChain(sum float32, x, w []float32) float32 {
	var half [2]float32
	for k := range x {
		p := float64(flushed(x[k])) * float64(flushed(w[k])) // exact, and larger than a float32 can be
		half[k%2] = flushed(float32(float64(half[k%2]) + p)) // 16 and 24 bits: rounding twice is rounding once
	}
	return flushed(sum + flushed(half[0]+half[1]))
}

// terms are the BF16 terms of x.
func terms(x float32) (t [3]float32) {
	cut := func(f float32) float32 { return math.Float32frombits(math.Float32bits(f) &^ 0xffff) }
	t[0] = cut(x)
	if x-x != 0 {
		return t
	}
	t[1] = cut(x - t[0])
	t[2] = cut(x - t[0] - t[1])
	return t
}

// tileDot is the dot product of float32 activations and BF16 weights as the
// tiles sum it: 32 columns a step, the three terms one after the other.
func tileDot(x, w []float32) (sum float32) {
	for lo := 0; lo < len(x); lo += 32 {
		var cut [3][32]float32
		var ws [32]float32
		for c := lo; c < min(lo+32, len(x)); c++ {
			for q, t := range terms(x[c]) {
				cut[q][c-lo] = t
			}
			ws[c-lo] = w[c]
		}
		for q := range cut {
			sum = tileChain(sum, cut[q][:], ws[:])
		}
	}
	return sum
}

// TestTilesFloat: the tiles give the bits of the order that the package comment
// describes, for any number of tokens and threads, and what they give is as
// close to exact sums as float32 allows.
func TestTilesFloat(t *testing.T) {
	needTiles(t)
	r := rand.New(rand.NewPCG(3, 4))
	for turn := range 60 {
		m, n, k := 1+r.IntN(40), 1+r.IntN(70), 1+r.IntN(300)
		if turn%10 == 0 {
			m, k = 1+r.IntN(300), 2000+r.IntN(3000)
			n = 1 + r.IntN(5)
		}
		x, w := normals(r, m*k), normals(r, n*k)
		if turn%4 == 1 {
			for i := range x {
				x[i] *= float32(math.Exp2(float64(r.IntN(40) - 20)))
			}
		}
		if turn%7 == 2 {
			x[r.IntN(len(x))] = []float32{float32(math.Inf(1)), float32(math.NaN()), math.MaxFloat32}[r.IntN(3)]
		}
		raw := numeric.AppendBF16(nil, w)
		numeric.DecodeBF16(w, raw)
		ldy := n + r.IntN(3)
		got, one := filled(m*ldy, 77), make([]float32, n)
		require.True(t, tilesFloat(got, ldy, &FloatRows{M: m, K: k, X: x}, BF16, raw, n, &Workers{N: 1 + r.IntN(3)}))
		for i := range m {
			for j := range n {
				row, col := x[i*k:][:k], w[j*k:][:k]
				sum, exact, size := tileDot(row, col), 0.0, 0.0
				for c := range row {
					p := float64(row[c]) * float64(col[c])
					exact, size = exact+p, size+math.Abs(p)
				}
				v := got[i*ldy+j]
				sameBits(t, []float32{sum}, []float32{v}, fmt.Sprintf("m=%d n=%d k=%d, %d,%d", m, n, k, i, j))
				if !math.IsNaN(exact) && size < 1e30 {
					require.InDelta(t, exact, float64(v), size*0x1p-20)
				}
			}
			for j := n; j < ldy; j++ {
				require.EqualValues(t, 77, got[i*ldy+j])
			}
		}
		i := r.IntN(m)
		require.True(t, tilesFloat(one, n, &FloatRows{M: 1, K: k, X: x[i*k:][:k]}, BF16, raw, n, nil))
		sameBits(t, got[i*ldy:][:n], one, "one token")
	}
}

// FuzzTilesFloat: any bits, as activations and as weights.
func FuzzTilesFloat(f *testing.F) {
	f.Add(uint64(1), uint8(5), uint8(33), uint16(17), []byte{})
	f.Add(uint64(2), uint8(40), uint8(7), uint16(400), []byte{0, 0, 0x80, 0x7f, 0xff, 0xff, 0x7f, 0x7f, 1, 0, 0, 0, 0, 0, 0x80, 0})
	f.Fuzz(func(t *testing.T, seed uint64, m, n uint8, cols uint16, bits []byte) {
		needTiles(t)
		r := rand.New(rand.NewPCG(seed, 1))
		rows, out, k := 1+int(m%50), 1+int(n%40), 1+int(cols%700)
		x, w := normals(r, rows*k), normals(r, out*k)
		for ; len(bits) >= 4; bits = bits[4:] {
			v := math.Float32frombits(binary.LittleEndian.Uint32(bits))
			x[r.IntN(len(x))], w[r.IntN(len(w))] = v, v
		}
		raw := numeric.AppendBF16(nil, w)
		numeric.DecodeBF16(w, raw)
		got := make([]float32, rows*out)
		require.True(t, tilesFloat(got, out, &FloatRows{M: rows, K: k, X: x}, BF16, raw, out, nil))
		for i := range rows {
			for j := range out {
				sameBits(t, []float32{tileDot(x[i*k:][:k], w[j*k:][:k])}, got[i*out+j:][:1], fmt.Sprintf("%d, %d of k=%d", i, j, k))
			}
		}
	})
}

// TestTilesE4M3: the same for codes, with their scales.
func TestTilesE4M3(t *testing.T) {
	needTiles(t)
	r := rand.New(rand.NewPCG(5, 6))
	for turn := range 80 {
		m, n, k := 1+r.IntN(40), 1+r.IntN(70), 2*(1+r.IntN(200))
		if turn%10 == 0 {
			k = 2 * (1000 + r.IntN(6000))
			n = 1 + r.IntN(40)
		}
		code, rows, block, group := numeric.E4M3, 1, k, 0
		switch turn % 3 {
		case 1:
			rows, block = 16, 32*(1+r.IntN(5))
			group = block
		case 2:
			code, block = numeric.Int4, 32*(1+r.IntN(5))
		}
		block = min(block, k)
		w := matrix(r, code, n, k, rows, block)
		if code == numeric.E4M3 && turn%4 == 0 {
			w.Codes[r.IntN(len(w.Codes))] = 0x7f
		}
		a := QuantizeE4M3(normals(r, m*k), m, k, group, nil)
		if block == k {
			a.Group = k
		}
		got, one := make([]float32, m*n), make([]float32, n)
		require.True(t, tilesE4M3(got, n, a, w, &Workers{N: 1 + r.IntN(3)}))
		groups := w.ScaleCols()
		for i := range m {
			for j := range n {
				var want float32
				for g := range groups {
					sum := float32(0)
					end := min((g+1)*block, k)
					for lo := g * block; lo < end; lo += 32 {
						var xs, ws []float32
						for c := lo; c < min(lo+32, end); c++ {
							xs, ws = append(xs, a.V[i*k+c]), append(ws, w.Value(j, c))
						}
						sum = tileChain(sum, xs, ws)
					}
					s := w.Scales[j/w.BlockRows*groups+g]
					if a.Group < k {
						s *= a.Scale[i*groups+g]
					}
					want += float32(sum * s)
				}
				if a.Group >= k {
					want *= a.Scale[i]
				}
				require.True(t, want == got[i*n+j] || want != want && got[i*n+j] != got[i*n+j], "turn %d m=%d n=%d k=%d block=%d: %v %v", turn, m, n, k,
					block, want, got[i*n+j])
			}
		}
		i := r.IntN(m)
		require.True(t, tilesE4M3(one, n, a.Gather([]int32{int32(i)}), w, nil))
		sameBits(t, got[i*n:][:n], one, "one token")
	}
}

func BenchmarkTilesFloat(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, k, copies = 1408, 4096, 4
	var raw [copies][]byte
	var w [copies]*numeric.Matrix
	for c := range copies {
		raw[c] = numeric.AppendBF16(nil, normals(r, n*k))
		w[c] = matrix(r, numeric.E4M3, n, k, 128, 128)
	}
	for _, m := range []int{1, 8, 64, 256} {
		x, y := normals(r, m*k), make([]float32, m*n)
		a := QuantizeE4M3(x, m, k, 128, nil)
		rate := func(b *testing.B) {
			b.ReportMetric(float64(b.N)*float64(m)*n*k/b.Elapsed().Seconds()/1e9, "GMAC/s")
		}
		b.Run(fmt.Sprintf("bf16/M=%d", m), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				Float(y, n, x, m, BF16, raw[i%copies], n, k, nil)
			}
			rate(b)
		})
		b.Run(fmt.Sprintf("e4m3 block/M=%d", m), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				E4M3(y, n, a, w[i%copies], nil)
			}
			rate(b)
		})
	}
}
