package layout

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// putBits writes a field into a stream of 32-bit words.
func putBits(words []uint32, at, bits, stride, first int, v uint32) {
	w, shift := at/32, at%32
	words[w*stride+first] |= v << shift
	if shift+bits > 32 {
		words[(w+1)*stride+first] |= v >> (32 - shift)
	}
}

func wordBytes(w []uint32) (out []byte) {
	for _, v := range w {
		out = binary.LittleEndian.AppendUint32(out, v)
	}
	return out
}

// asymmetric is a random weight of integers with zero points.
type asymmetric struct {
	bits, rows, cols, group int
	codes, zeros            []uint32 // [rows, cols], [rows, groups]
	scales                  []float32
	order                   []int32
}

func drawAsymmetric(t *rapid.T, bits []int, rowStep, colStep int) *asymmetric {
	a := &asymmetric{bits: rapid.SampledFrom(bits).Draw(t, "bits"), rows: rowStep * rapid.IntRange(1, 3).Draw(t, "rows"),
		cols: colStep * rapid.IntRange(1, 3).Draw(t, "cols"), group: rapid.SampledFrom([]int{8, 16, 32}).Draw(t, "group")}
	n := (a.cols + a.group - 1) / a.group
	field := rapid.Uint32Range(0, 1<<a.bits-1)
	a.codes = rapid.SliceOfN(field, a.rows*a.cols, a.rows*a.cols).Draw(t, "codes")
	a.zeros = rapid.SliceOfN(field, a.rows*n, a.rows*n).Draw(t, "zeros")
	a.scales = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) float32 {
		return float32(rapid.IntRange(-999, 999).Draw(t, "s")) / 1024
	}), a.rows*n, a.rows*n).Draw(t, "scales")
	if rapid.Bool().Draw(t, "ordered") {
		a.order = rapid.SliceOfN(rapid.Int32Range(0, int32(n)-1), a.cols, a.cols).Draw(t, "order")
	}
	return a
}

// value is (code − zero)·scale, with the zero point z adds to the stored one.
func (a *asymmetric) value(r, c int, z uint32) float32 {
	n := (a.cols + a.group - 1) / a.group
	g := c / a.group
	if a.order != nil {
		g = int(a.order[c])
	}
	return float32(int(a.codes[r*a.cols+c])-int(a.zeros[r*n+g]+z)) * a.scales[r*n+g]
}

func (a *asymmetric) check(t *rapid.T, ckpt memory, declared format.Weight, z uint32) {
	s, err := Lookup(ckpt, "m", Hints{Declared: func(string) format.Weight { return declared }, Cols: func(string) int { return a.cols }})
	require.NoError(t, err)
	require.Equal(t, []int{a.rows, a.cols}, []int{s.Rows, s.Cols})
	lo := rapid.IntRange(0, a.rows-1).Draw(t, "lo")
	hi := rapid.IntRange(lo+1, a.rows).Draw(t, "hi")
	m, err := ReadRows(ckpt, s, lo, hi)
	require.NoError(t, err)
	v := make([]float32, (hi-lo)*a.cols)
	m.Dequant(v, 0, hi-lo)
	for r := lo; r < hi; r++ {
		for c := range a.cols {
			require.Equal(t, a.value(r, c, z), v[(r-lo)*a.cols+c], "row %d, column %d", r, c)
		}
	}
}

func (a *asymmetric) putColumns(ckpt memory) {
	n := (a.cols + a.group - 1) / a.group
	turned := make([]float32, 0, len(a.scales))
	for g := range n {
		for r := range a.rows {
			turned = append(turned, a.scales[r*n+g])
		}
	}
	ckpt.put("m.scales", safetensors.F32, numeric.AppendF32(nil, turned), int64(n), int64(a.rows))
	if a.order != nil {
		raw := []byte{}
		for _, g := range a.order {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(g))
		}
		ckpt.put("m.g_idx", safetensors.I32, raw, int64(a.cols))
	}
}

// TestGPTQWords: codes of 2 to 8 bits in one stream, zero points of both
// versions, columns in any order.
func TestGPTQWords(t *testing.T) {
	for _, version := range []format.Packing{format.GPTQWords, format.GPTQv2Words} {
		t.Run(version.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				a := drawAsymmetric(t, []int{2, 3, 4, 5, 6, 7, 8}, 32, 32)
				n := (a.cols + a.group - 1) / a.group
				if version == format.GPTQWords {
					for i := range a.zeros { // the largest one does not survive the addition to a word: TestStoredFifteen
						a.zeros[i] = min(a.zeros[i], 1<<a.bits-2)
					}
				}
				codes, zeros := make([]uint32, a.cols*a.bits/32*a.rows), make([]uint32, n*a.rows*a.bits/32)
				for r := range a.rows {
					for c := range a.cols {
						putBits(codes, c*a.bits, a.bits, a.rows, r, a.codes[r*a.cols+c])
					}
					for g := range n {
						putBits(zeros[g*a.rows*a.bits/32:], r*a.bits, a.bits, 1, 0, a.zeros[r*n+g])
					}
				}
				ckpt := memory{}
				ckpt.put("m.qweight", safetensors.I32, wordBytes(codes), int64(a.cols*a.bits/32), int64(a.rows))
				ckpt.put("m.qzeros", safetensors.I32, wordBytes(zeros), int64(n), int64(a.rows*a.bits/32))
				a.putColumns(ckpt)
				w := format.Integer(a.bits, a.group).Packed(version)
				w.ZeroPoints = true // declared symmetric: TestSymmetricZeros
				z := uint32(0)
				if version == format.GPTQWords {
					z = 1
				}
				a.check(t, ckpt, w, z)
			})
		})
	}
}

// TestStoredFifteen: of a zero point of 0, version 1 stores 15, and the word
// with it borrows; reading adds to the whole word.
func TestStoredFifteen(t *testing.T) {
	zeros := []uint32{0, 3, 1, 0, 15, 0, 0, 9}
	var word uint32
	for i, z := range zeros {
		word |= z << (4 * i)
	}
	ckpt := memory{}
	ckpt.put("m.qweight", safetensors.I32, make([]byte, 32), 1, 8)
	ckpt.put("m.qzeros", safetensors.I32, wordBytes([]uint32{word - 0x11111111}), 1, 1)
	ckpt.put("m.scales", safetensors.F32, numeric.AppendF32(nil, []float32{1, 1, 1, 1, 1, 1, 1, 1}), 1, 8)
	s, err := Lookup(ckpt, "m", Hints{})
	require.NoError(t, err)
	m, err := Read(ckpt, s)
	require.NoError(t, err)
	for r, z := range zeros {
		assert.Equal(t, -float32(z), m.Value(r, 0), "row %d", r)
	}
}

// TestAWQWords: outputs lie in the order 0 2 4 6 1 3 5 7 and zero points as
// they are.
func TestAWQWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawAsymmetric(t, []int{4}, 8, 8)
		a.order = nil
		n := (a.cols + a.group - 1) / a.group
		order := []int{0, 2, 4, 6, 1, 3, 5, 7}
		codes, zeros := make([]uint32, a.cols*a.rows/8), make([]uint32, n*a.rows/8)
		for w := range a.rows / 8 {
			for nibble, o := range order {
				for c := range a.cols {
					codes[c*a.rows/8+w] |= a.codes[(8*w+o)*a.cols+c] << (4 * nibble)
				}
				for g := range n {
					zeros[g*a.rows/8+w] |= a.zeros[(8*w+o)*n+g] << (4 * nibble)
				}
			}
		}
		ckpt := memory{}
		ckpt.put("m.qweight", safetensors.I32, wordBytes(codes), int64(a.cols), int64(a.rows/8))
		ckpt.put("m.qzeros", safetensors.I32, wordBytes(zeros), int64(n), int64(a.rows/8))
		a.putColumns(ckpt)
		w := format.Integer(4, a.group).Packed(format.AWQWords)
		w.ZeroPoints = true
		a.check(t, ckpt, w, 0)
	})
}

// TestPackedIntegers: pack-quantized codes of 2 to 8 bits, with zero points and
// activation order.
func TestPackedIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawAsymmetric(t, []int{2, 3, 4, 8}, 7, 16)
		n := (a.cols + a.group - 1) / a.group
		per := 32 / a.bits
		words := (a.cols + per - 1) / per
		codes, zeros := make([]uint32, a.rows*words), make([]uint32, (a.rows+per-1)/per*n)
		for r := range a.rows {
			for c := range a.cols {
				codes[r*words+c/per] |= a.codes[r*a.cols+c] << (a.bits * (c % per))
			}
			for g := range n {
				zeros[r/per*n+g] |= a.zeros[r*n+g] << (a.bits * (r % per))
			}
		}
		ckpt := memory{}
		ckpt.put("m.weight_packed", safetensors.I32, wordBytes(codes), int64(a.rows), int64(words))
		ckpt.put("m.weight_zero_point", safetensors.I32, wordBytes(zeros), int64((a.rows+per-1)/per), int64(n))
		ckpt.put("m.weight_scale", safetensors.F32, numeric.AppendF32(nil, a.scales), int64(a.rows), int64(n))
		if a.order != nil {
			a.putColumns(ckpt)
			ckpt["m.weight_g_idx"] = ckpt["m.g_idx"]
			delete(ckpt, "m.g_idx")
			info := ckpt["m.weight_g_idx"]
			info.info.Name = "m.weight_g_idx"
			ckpt["m.weight_g_idx"] = info
			delete(ckpt, "m.scales")
		}
		a.check(t, ckpt, format.Integer(a.bits, a.group).Packed(format.Words), 0)
	})
}

// otherZeros reads a checkpoint whose zero points are others.
type otherZeros struct {
	TensorReader
	change func(word uint32) uint32
}

func (o otherZeros) ReadAt(info safetensors.Info, off int64, p []byte) error {
	err := o.TensorReader.ReadAt(info, off, p)
	if strings.HasSuffix(info.Name, ".qzeros") {
		for i := 0; i+4 <= len(p); i += 4 {
			binary.LittleEndian.PutUint32(p[i:], o.change(binary.LittleEndian.Uint32(p[i:])))
		}
	}
	return err
}

// TestSymmetricZeros: zero points of weights that are declared symmetric are
// compared with what engines take, the middle of the range; those of the other
// version of GPTQ are called that.
func TestSymmetricZeros(t *testing.T) {
	ckpt, cfg := openDir(t, "reference/foreign/autoround-gptq")
	h := declaredBy(t, cfg)
	const module = "model.layers.0.self_attn.q_proj"
	s, err := Lookup(ckpt, module, h)
	require.NoError(t, err)
	require.False(t, s.Quant.ZeroPoints)
	for name, tc := range map[string]struct {
		change func(uint32) uint32
		says   string
	}{
		"as they are":           {func(w uint32) uint32 { return w }, ""},
		"version 2":             {func(uint32) uint32 { return 0x88888888 }, "version 2 (gptq_v2) in a file that is declared version 1"},
		"one of them":           {func(w uint32) uint32 { return w ^ 0x200 }, "group 0 is"},
		"none, as some writers": {func(uint32) uint32 { return 0 }, "the zero point of row 0, group 0 is 1"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Read(otherZeros{ckpt, tc.change}, s)
			if tc.says == "" {
				require.NoError(t, err)
				assert.Nil(t, m.Zeros)
				return
			}
			require.ErrorIs(t, err, ErrMalformed)
			assert.Contains(t, err.Error(), tc.says)
			assert.Contains(t, err.Error(), module+".qzeros")
		})
	}
}
