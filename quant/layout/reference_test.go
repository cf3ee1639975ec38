package layout

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
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
		want Declared
		rms  float64 // relative, of a tensor: docs/facts/layouts.md 1.5 with room for real weights
	}{
		{"FP8_DYNAMIC", Declared{Encoding: FP8ChannelEnc, Acts: ActsFP8, Source: "group FP8_DYNAMIC"}, 0.03},
		{"W4A8", Declared{Encoding: Int4GroupEnc, Group: 128, Acts: ActsInt8, Source: "group W4A8"}, 0.17},
	} {
		ckpt, cfg := openDir(t, "reference/nano-glm4moe-quantized/"+c.dir)
		e, err := Detect(cfg, nil)
		require.NoError(t, err)
		assert.Equal(t, CompressedTensors, e.Format)
		n, worst := 0, 0.0
		for i := range cfg.Table() {
			row := &cfg.Table()[i]
			if row.Param != "weight" || len(row.Shape) != 2 {
				continue
			}
			s, err := e.Lookup(ckpt, row)
			require.NoError(t, err, row.Name)
			if !row.Role.IsLinear() {
				assert.Equal(t, Float, s.Encoding, row.Name)
				continue
			}
			d, err := e.Module(row.Module)
			require.NoError(t, err)
			assert.Equal(t, c.want, d, row.Name)
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
// by what the written configuration declares, within the layout's bound.
func TestReferenceModelsThroughEveryLayout(t *testing.T) {
	for _, name := range []string{"nano-glm4moe", "nano-glm5", "nano-glm45v"} {
		src, cfg := openDir(t, "reference/"+name)
		for _, s := range Schemes {
			for _, f := range Formats {
				if Supported(s, f) != nil || s == W4A8FP8 {
					continue
				}
				o := Options{Scheme: s, Format: f, MTP: MTPQuantize}
				var in []Input
				for _, row := range cfg.Table() {
					if _, ok := src.Info(row.Name); ok {
						in = append(in, Input{Tensor: row, Source: row.DType})
					}
				}
				ds, err := Decide(cfg, in, o)
				require.NoError(t, err)
				l, err := For(f)
				require.NoError(t, err)
				files, err := l.Config(Decisions{Config: cfg, Scheme: s, GroupSize: 128, Weights: weightsOf(ds)})
				require.NoError(t, err)
				written, err := glm.ParseConfig(files["config.json"])
				require.NoError(t, err)
				e, err := Detect(written, files[DescriptionName])
				require.NoError(t, err)
				n := 0
				for _, d := range ds {
					if !d.Weight.Encoding.Quantized() || d.Weight.Tensor.Expert > 1 {
						continue
					}
					info, _ := src.Info(d.Weight.Tensor.Name)
					raw := make([]byte, info.Size)
					require.NoError(t, src.ReadAt(info, 0, raw))
					x := make([]float32, info.Elements())
					require.NoError(t, DecodeFloats(x, raw, info.DType))
					ckpt, whole := write(t, l, d.Weight, numeric.Best, x, 48)
					st, err := e.Lookup(ckpt, &d.Weight.Tensor)
					require.NoError(t, err)
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
