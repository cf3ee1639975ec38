package layout

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

func openDir(t *testing.T, name string) (*safetensors.Checkpoint, *glm.Config) {
	dir := testkit.Shared(t, name)
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	return c, cfg
}

// llm-compressor's files, read by what they declare: every linear, the MTP
// layer's too, is found as declared and lies within half a step of its source.
func TestReadsLLMCompressor(t *testing.T) {
	src, _ := openDir(t, "reference/nano-glm4moe")
	for _, c := range []struct {
		dir  string
		want format.Weight
		rms  float64 // relative, of a tensor: docs/facts/layouts.md 1.5 with room for real weights
	}{
		{"FP8_DYNAMIC", format.Float8.Scaled(format.BF16), 0.03},
		{"W4A8", format.Int4(128).Scaled(format.BF16), 0.17},
	} {
		ckpt, cfg := openDir(t, "reference/nano-glm4moe-quantized/"+c.dir)
		h := Hints{Declared: func(string) format.Weight { return c.want }}
		n, worst := 0, 0.0
		for i := range cfg.Table() {
			row := &cfg.Table()[i]
			if row.Param != "weight" || len(row.Shape) != 2 {
				continue
			}
			s, err := Lookup(ckpt, row.Module, h)
			require.NoError(t, err, row.Name)
			if !row.Role.IsLinear() {
				assert.False(t, s.Quantized(), row.Name)
				continue
			}
			assert.Equal(t, CompressedTensors, s.Format)
			assert.Equal(t, c.want, s.Quant, row.Name)
			m, err := Read(ckpt, s)
			require.NoError(t, err)
			got, want := make([]float32, m.Rows*m.Cols), make([]float32, m.Rows*m.Cols)
			m.Dequant(got, 0, m.Rows)
			info, ok := src.Info(row.Name)
			require.True(t, ok)
			raw := make([]byte, info.Size)
			require.NoError(t, src.ReadAt(info, 0, raw))
			require.NoError(t, DecodeFloats(want, raw, info.DType))
			var sum, err2 float64
			for j := range want {
				step := float64(m.Scale(j/m.Cols, j%m.Cols))
				diff := math.Abs(float64(got[j]) - float64(want[j]))
				if m.Code == numeric.E4M3 {
					step *= math.Max(math.Abs(float64(m.Value(j/m.Cols, j%m.Cols)))/8, 1.0/512) // spacing of 3 mantissa bits
				}
				// The BF16 quotient and the scale's own rounding move a code by 2^-8 of its size each.
				require.LessOrEqual(t, diff, step/2+math.Abs(float64(want[j]))/64, "%s %d", row.Name, j)
				sum += float64(want[j]) * float64(want[j])
				err2 += diff * diff
			}
			worst = math.Max(worst, math.Sqrt(err2/sum))
			n++
		}
		t.Logf("%s: %d weights, worst relative error %.4f", c.dir, n, worst)
		assert.Equal(t, 4*4+3+3*(8*3+3), n, "3 layers and the MTP layer")
		assert.Less(t, worst, c.rms)
	}
}

// The round trip of real weights through every layout: written by tiles, found
// by what was decided, within the layout's bound.
func TestReferenceModelsThroughEveryLayout(t *testing.T) {
	for _, name := range []string{"nano-glm4moe", "nano-glm5", "nano-glm45v"} {
		src, cfg := openDir(t, "reference/"+name)
		for _, s := range Schemes {
			for _, f := range Formats {
				if Supported(s, f) != nil || s == BF16 || s == W4A8FP8 {
					continue
				}
				o := Options{Scheme: s, Format: f, MTP: MTPQuantize}
				var in []Input
				for _, row := range cfg.Table() {
					if _, ok := src.Info(row.Name); ok {
						in = append(in, Input{Tensor: &row, Source: row.DType})
					}
				}
				ds, err := Decide(cfg, in, o)
				require.NoError(t, err)
				l, err := For(f)
				require.NoError(t, err)
				n := 0
				for _, d := range ds {
					if !d.Weight.Quantized() || d.Weight.Tensor.Expert > 1 {
						continue
					}
					info, _ := src.Info(d.Weight.Tensor.Name)
					raw := make([]byte, info.Size)
					require.NoError(t, src.ReadAt(info, 0, raw))
					x := make([]float32, info.Elements())
					require.NoError(t, DecodeFloats(x, raw, info.DType))
					ckpt, whole := write(t, l, d.Weight, numeric.Best, x, 48)
					st, err := Lookup(ckpt, d.Weight.Tensor.Module, Hints{Declared: func(string) format.Weight { return d.Weight.Quant }})
					require.NoError(t, err)
					require.Equal(t, d.Weight.Quant, st.Quant)
					m, err := Read(ckpt, st)
					require.NoError(t, err)
					require.Equal(t, whole.Codes, m.Codes)
					require.Equal(t, whole.Scales, m.Scales)
					n++
				}
				require.NotZero(t, n, "%s %s %s", name, s, f)
			}
		}
	}
}
