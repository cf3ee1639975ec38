package layout

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// columns is a format that nobody has: int8 with a scale a channel, codes in
// P.qweight, scales in P.scales, and the scale of the input's quantization in
// P.input_scale (F32 [1], static). It shows what a format is made of: this file
// and its line in the registry are all that Decide, Outputs, AppendTile, Lookup
// and ReadRows need.
type columns struct{ common }

const columnsFormat Format = "columns"

var columnsInt8 = format.Int8.Scaled(format.F32)

func (columns) Format() Format         { return columnsFormat }
func (columns) Reference() string      { return "nobody rounds" }
func (columns) schemes() []Scheme      { return []Scheme{W8A8} }
func (columns) weightParams() []string { return []string{"qweight"} }
func (columns) label(*Weight) string   { return "COLUMNS" }

func (columns) choose(_ *glm.Config, t *glm.Tensor, _ *Options) (choice, string) {
	if t.Role == glm.AttnKVB || t.Role == glm.IndexerK {
		return choice{}, keptKVB
	}
	static := format.Activation{Type: format.Int, Bits: 8, Strategy: format.Tensor, When: format.Static}
	return choice{columnsInt8, static}, ""
}

func (columns) Outputs(w Weight) []safetensors.Spec {
	if !w.Quantized() {
		return floatOutput(&w)
	}
	n, k := w.Dims()
	p := w.Tensor.Module
	out := []safetensors.Spec{spec(p, "qweight", safetensors.I8, int64(n), int64(k)), spec(p, "scales", safetensors.F32, int64(n))}
	if w.Act.When == format.Static {
		out = append(out, spec(p, "input_scale", safetensors.F32, 1))
	}
	return out
}

func (columns) Numeric(w Weight, a Arith) numeric.Spec {
	return numericOf(w.Quant, numeric.Ascend, a)
}

func (columns) AppendTile(w Weight, row0 int, m *numeric.Matrix, out [][]byte) ([][]byte, error) {
	out[0], out[1] = appendCodes(out[0], m.Codes), numeric.AppendF32(out[1], m.Scales)
	if w.Act.When == format.Static && row0 == 0 {
		out[2] = numeric.AppendF32(out[2], []float32{0.5})
	}
	return out, nil
}

func (columns) Config(d Decisions) (map[string][]byte, error) {
	return withQuantization(d, map[string]string{"quant_method": "columns"})
}

func (columns) find(t *tensors, _ Hints) (s Stored, ok bool, err error) {
	c, ok := t.get("qweight")
	if !ok {
		return s, false, nil
	}
	s = Stored{Module: t.module, Format: columnsFormat, Codes: c, Quant: columnsInt8}
	s.Scale, _ = t.get("scales")
	if err := s.matrixShape(); err != nil {
		return s, true, err
	}
	return s, true, s.checkScale()
}

func (columns) read(b *Buffer, r TensorReader, s *Stored, lo, hi int) (m *numeric.Matrix, err error) {
	m = s.matrix(lo, hi)
	if m.Codes, err = b.bytes(r, s.Codes, lo, hi, s.Cols); err != nil {
		return nil, err
	}
	return m, s.readScales(r, m, lo)
}

// register adds a format for the length of a test.
func register(t *testing.T, l Layout) {
	old, oldFormats := registry, Formats
	registry = append(registry[:len(registry):len(registry)], l)
	Formats = formats()
	t.Cleanup(func() { registry, Formats = old, oldFormats })
}

// TestAFormatIsOneFile: a format with static activations, codes and scales
// under names of its own, is decided, written, declared and read back through
// the calls that all others go through.
func TestAFormatIsOneFile(t *testing.T) {
	register(t, columns{})
	require.NoError(t, Supported(W8A8, columnsFormat))
	_, err := ParseFormat("columns")
	require.NoError(t, err)
	assert.Equal(t, CompressedTensors, DefaultFormat(W8A8, preset(t, "glm-4.5-air")), "no default changes")
	assert.True(t, HoldsWeight("qweight"))

	cfg := small(t, "glm-4.5-air")
	ds, err := Decide(cfg, inputs(cfg), Options{Scheme: W8A8, Format: columnsFormat})
	require.NoError(t, err)
	n := 0
	for _, d := range ds {
		if d.Scheme == "COLUMNS" {
			assert.Len(t, columns{}.Outputs(d.Weight), 3)
			n++
		}
	}
	assert.Equal(t, 4*47+3+46*(2*3+3), n)
	files, err := columns{}.Config(Decisions{Config: cfg, Scheme: W8A8, Weights: weightsOf(ds)})
	require.NoError(t, err)
	assert.Contains(t, string(files["config.json"]), `"quant_method": "columns"`)

	rapid.Check(t, func(t *rapid.T) {
		rows, cols := rapid.IntRange(1, 40).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "cols")
		x := rapid.SliceOfN(rapid.Float32Range(-4, 4), rows*cols, rows*cols).Draw(t, "x")
		w := weight(glm.AttnO, columnsInt8, int64(rows), int64(cols))
		w.Act.When = format.Static
		ckpt, want := write(t, columns{}, w, numeric.Best, x, rapid.IntRange(1, 50).Draw(t, "tile"))
		s, err := Lookup(ckpt, "m", Hints{})
		require.NoError(t, err)
		assert.Equal(t, columnsFormat, s.Format)
		m, err := Read(ckpt, s)
		require.NoError(t, err)
		assert.Equal(t, want, m)
	})
}
