package layout

import (
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

func detect(t *testing.T, quantization string) (*Existing, error) {
	var q struct {
		Method string `json:"quant_method"`
	}
	require.NoError(t, json.Unmarshal([]byte(quantization), &q))
	return Detect(&glm.Config{Quantization: q.Method, QuantizationConfig: json.RawMessage(quantization)}, nil)
}

// One weight group with the given arguments and format.
func ct(weights, acts, format string) string {
	return `{"quant_method": "compressed-tensors", "format": "dense", "ignore": ["lm_head", "re:.*\\.gate$"], "config_groups": {"g": {"targets": ["Linear"], "weights": ` +
		weights + `, "input_activations": ` + acts + `, "format": "` + format + `"}}}`
}

func TestDetectCompressedTensors(t *testing.T) {
	const token8, float8 = `{"num_bits": 8, "type": "int", "strategy": "token", "dynamic": true}`, `{"num_bits": 8, "type": "float", "strategy": "token", "dynamic": true}`
	for _, c := range []struct {
		q    string
		want Declared
		bad  bool // no layout of ours
	}{
		{ct(`{"num_bits": 8, "type": "float", "strategy": "channel"}`, float8, "float-quantized"), Declared{Encoding: FP8ChannelEnc, Acts: ActsFP8}, false},
		{ct(`{"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}`, `{"num_bits": 8, "type": "float", "strategy": "group", "group_size": 128, "dynamic": true}`, "float-quantized"), Declared{Encoding: FP8BlockEnc, Acts: ActsFP8Group}, false},
		{ct(`{"num_bits": 8, "type": "float", "strategy": "block", "block_structure": "128x128"}`, "null", "float-quantized"), Declared{Encoding: FP8BlockEnc}, false},
		{ct(`{"num_bits": 8, "type": "int", "strategy": "channel", "group_size": -1}`, token8, "int-quantized"), Declared{Encoding: Int8ChannelEnc, Acts: ActsInt8}, false},
		{ct(`{"num_bits": 4, "type": "int", "group_size": 32}`, token8, "int-quantized"), Declared{Encoding: Int4GroupEnc, Group: 32, Acts: ActsInt8}, false},
		{ct(`{"num_bits": 4, "type": "int", "strategy": "channel"}`, "null", "pack-quantized"), Declared{Encoding: Int4PackedEnc}, false},
		{ct(`{"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": false}`, "null", "pack-quantized"), Declared{}, true},
		{ct(`{"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "actorder": "group"}`, "null", "pack-quantized"), Declared{}, true},
		{ct(`{"num_bits": 8, "type": "int", "strategy": "channel"}`, token8, "pack-quantized"), Declared{}, true},
		{ct(`{"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}`, "null", "nvfp4-pack-quantized"), Declared{}, true},
		{ct(`{"num_bits": 8, "type": "float", "strategy": "channel"}`, `{"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false}`, "float-quantized"), Declared{}, true},
		{ct(`{"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [64, 128]}`, "null", "float-quantized"), Declared{}, true},
	} {
		e, err := detect(t, c.q)
		require.NoError(t, err, c.q)
		d, err := e.Module("model.layers.0.mlp.down_proj")
		if c.bad {
			assert.ErrorIs(t, err, ErrForeign, c.q)
			continue
		}
		require.NoError(t, err, c.q)
		d.Source = ""
		assert.Equal(t, c.want, d, c.q)
		for _, stays := range []string{"lm_head", "model.layers.0.mlp.gate"} {
			d, err = e.Module(stays)
			require.NoError(t, err)
			assert.Equal(t, Float, d.Encoding)
		}
	}
}

// Names win over the class, the first group over a later one, and a module
// that nothing names is unquantised.
func TestDetectGroupOrder(t *testing.T) {
	group := func(targets, bits string) string {
		return `{"targets": ` + targets + `, "format": "int-quantized", "weights": {"num_bits": ` + bits + `, "type": "int", "strategy": "channel"}}`
	}
	e, err := detect(t, `{"quant_method": "compressed-tensors", "config_groups": {"z": `+group(`["Linear"]`, "8")+`, "a": `+group(`["re:.*experts\\."]`, "4")+`, "b": `+group(`["re:.*experts\\.0"]`, "8")+`}}`)
	require.NoError(t, err)
	for module, want := range map[string]Encoding{"l.mlp.experts.0.up_proj": Int4GroupEnc, "l.mlp.up_proj": Int8ChannelEnc} {
		d, err := e.Module(module)
		require.NoError(t, err)
		assert.Equal(t, want, d.Encoding, module)
	}
	assert.Equal(t, 4, e.Bits("l.mlp.experts.0.up_proj"))
	assert.Equal(t, 8, e.Bits("l.mlp.up_proj"))
	e, err = detect(t, `{"quant_method": "compressed-tensors", "config_groups": {"a": `+group(`["x"]`, "4")+`}}`)
	require.NoError(t, err)
	d, err := e.Module("y")
	require.NoError(t, err)
	assert.Equal(t, Float, d.Encoding)
	assert.Equal(t, 0, e.Bits("y"))
}

func TestDetectOthers(t *testing.T) {
	e, err := Detect(&glm.Config{}, nil)
	require.NoError(t, err)
	assert.False(t, e.Quantized())

	e, err = detect(t, `{"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["model.layers.1", "re:.*"]}`)
	require.NoError(t, err)
	for module, want := range map[string]Encoding{"model.layers.1.x": Float, "model.layers.10.x": FP8BlockEnc} {
		d, err := e.Module(module)
		require.NoError(t, err)
		assert.Equal(t, want, d.Encoding, module)
	}

	for _, bad := range []string{
		`{"quant_method": "gptq"}`, `{"quant_method": "fp8"}`, `{"quant_method": "fp8", "weight_block_size": [1, 128]}`, `{"quant_method": "fp8", "weight_block_size": "x"}`,
		`{"quant_method": "compressed-tensors"}`, `{"quant_method": "compressed-tensors", "config_groups": {}}`, `{"quant_method": "compressed-tensors", "ignore": ["re:("], "config_groups": {"a": {}}}`,
		`{"quant_method": "compressed-tensors", "config_groups": {"a": {"targets": ["Linear"]}}}`, `{"quant_method": "compressed-tensors", "config_groups": {"a": 3}}`,
	} {
		_, err := detect(t, bad)
		var ce *ConfigError
		assert.ErrorAs(t, err, &ce, bad)
	}
}

func TestDetectAscend(t *testing.T) {
	good := `{"a.weight": "W8A8_DYNAMIC", "a.bias": "FLOAT", "b.weight": "FLOAT", "c.weight": "W4A8_DYNAMIC", "d.weight": "W8A8", "version": "1.0.0", "group_size": 0, "metadata": {"x.y": 1}}`
	// The description wins over whatever config.json says.
	e, err := Detect(&glm.Config{Quantization: "fp8", QuantizationConfig: json.RawMessage(`{}`)}, []byte(good))
	require.NoError(t, err)
	for module, want := range map[string]Declared{
		"a": {Encoding: Int8ChannelEnc, Acts: ActsInt8, Source: "W8A8_DYNAMIC"}, "b": {Source: "FLOAT"}, "c": {Encoding: Int4ChannelAsc, Acts: ActsInt8, Source: "W4A8_DYNAMIC"},
	} {
		d, err := e.Module(module)
		require.NoError(t, err)
		assert.Equal(t, want, d)
	}
	_, err = e.Module("d")
	assert.ErrorIs(t, err, ErrForeign)
	_, err = e.Module("e")
	assert.ErrorIs(t, err, ErrMalformed)
	for _, old := range []string{`{"c.weight": "W4A8_DYNAMIC", "version": "1.0.0", "group_size": 256}`, `{"c.weight": "W4A8_DYNAMIC", "group_size": 0}`, `{"c.weight": "W4A8_DYNAMIC", "version": "1.0.0"}`} {
		_, err = Detect(&glm.Config{}, []byte(old))
		assert.ErrorIs(t, err, ErrForeign, old)
	}
	_, err = Detect(&glm.Config{}, []byte(`[`))
	assert.ErrorIs(t, err, ErrMalformed)
}

// stored makes tensors of module m with zero data.
func stored(list ...safetensors.Spec) memory {
	m := memory{}
	for _, s := range list {
		m["m."+s.Name] = struct {
			info safetensors.Info
			data []byte
		}{safetensors.Info{Name: "m." + s.Name, DType: s.DType, Shape: s.Shape, Size: s.Bytes()}, make([]byte, s.Bytes())}
	}
	return m
}

func sp(name string, d safetensors.DType, shape ...int64) safetensors.Spec {
	return safetensors.Spec{Name: name, DType: d, Shape: shape}
}

// What the configuration says and the tensors are must agree.
func TestLookupComparesWithDeclaration(t *testing.T) {
	e, err := detect(t, ct(`{"num_bits": 8, "type": "int", "strategy": "channel"}`, "null", "int-quantized"))
	require.NoError(t, err)
	row := &glm.Tensor{Name: "m.weight", Module: "m", Param: "weight", Role: glm.AttnO, Shape: []int64{4, 8}}
	_, err = e.Lookup(stored(sp("weight", safetensors.I8, 4, 8), sp("weight_scale", safetensors.BF16, 4, 1)), row)
	require.NoError(t, err)
	for name, bad := range map[string]memory{
		"BF16 under an INT8 config": stored(sp("weight", safetensors.BF16, 4, 8)),
		"FP8 under an INT8 config":  stored(sp("weight", safetensors.F8E4M3, 4, 8), sp("weight_scale", safetensors.BF16, 4, 1)),
		"too few rows":              stored(sp("weight", safetensors.I8, 2, 8), sp("weight_scale", safetensors.BF16, 2, 1)),
	} {
		_, err = e.Lookup(bad, row)
		assert.ErrorIs(t, err, ErrMalformed, name)
	}
	wk := *row
	wk.Role = glm.IndexerK
	_, err = e.Lookup(stored(sp("weight", safetensors.BF16, 4, 8)), &wk)
	assert.NoError(t, err, "indexer.wk is read as it comes")
	_, err = e.Lookup(stored(sp("weight", safetensors.I8, 4, 8), sp("weight_scale", safetensors.BF16, 4, 1)), &wk)
	assert.NoError(t, err)
	norm := *row
	norm.Role = glm.Router
	_, err = e.Lookup(stored(sp("weight", safetensors.BF16, 4, 8)), &norm)
	assert.NoError(t, err, "the class Linear does not reach what engines build unquantised")
}

// Other tools' layouts are refused, never misread.
func TestLookupRefusesForeign(t *testing.T) {
	i8, bf := safetensors.I8, safetensors.BF16
	scale := sp("weight_scale", bf, 4, 1)
	for name, c := range map[string]memory{
		"asymmetric":    stored(sp("weight", i8, 4, 8), scale, sp("weight_zero_point", i8, 4, 1)),
		"g_idx":         stored(sp("weight_packed", safetensors.I32, 4, 1), scale, sp("weight_g_idx", safetensors.I32, 8)),
		"nvfp4":         stored(sp("weight_packed", safetensors.U8, 4, 4), scale, sp("weight_global_scale", safetensors.F32, 1)),
		"static ascend": stored(sp("weight", i8, 4, 8), sp("deq_scale", safetensors.F32, 4)),
		"two-level":     stored(sp("weight", i8, 4, 8), scale, sp("weight_scale_second", safetensors.F32, 4, 1)),
		"packed bytes":  stored(sp("weight_packed", i8, 4, 4), scale),
		"e8m0 scales":   stored(sp("weight", safetensors.F8E4M3, 4, 8), sp("weight_scale", safetensors.U8, 4, 1)),
	} {
		_, err := Lookup(c, "m", Hints{})
		assert.ErrorIs(t, err, ErrForeign, name)
	}
	packed8 := stored(sp("weight_packed", safetensors.I32, 4, 2), scale)
	_, err := Lookup(packed8, "m", Hints{Bits: func(string) int { return 8 }})
	assert.ErrorIs(t, err, ErrForeign)
	_, err = Lookup(packed8, "m", Hints{Cols: func(string) int { return 17 }})
	assert.ErrorIs(t, err, ErrMalformed)
	s, err := Lookup(packed8, "m", Hints{Cols: func(string) int { return 15 }})
	require.NoError(t, err)
	assert.Equal(t, 15, s.Cols)
	_, err = Lookup(stored(), "m", Hints{})
	assert.ErrorIs(t, err, safetensors.ErrNotFound)
}

func TestReadRefusesBadValues(t *testing.T) {
	int4 := stored(sp("weight", safetensors.I8, 4, 8), sp("weight_scale", safetensors.BF16, 4, 1))
	int4["m.weight"].data[13] = 8
	s, err := Lookup(int4, "m", Hints{Bits: func(string) int { return 4 }})
	require.NoError(t, err)
	_, err = Read(int4, s)
	assert.ErrorIs(t, err, ErrMalformed)
	assert.ErrorContains(t, err, "row 1, column 5")
	_, err = ReadRows(int4, s, 0, 1)
	assert.NoError(t, err, "the bad code is in another row")

	f32 := safetensors.F32
	asc := stored(sp("weight", safetensors.I8, 4, 8), sp("weight_scale", f32, 4, 1), sp("weight_offset", f32, 4, 1))
	s, err = Lookup(asc, "m", Hints{})
	require.NoError(t, err)
	assert.Equal(t, Int8ChannelEnc, s.Encoding)
	_, err = Read(asc, s)
	require.NoError(t, err)
	binary.LittleEndian.PutUint32(asc["m.weight_offset"].data[8:], 0x3f800000)
	_, err = Read(asc, s)
	assert.ErrorIs(t, err, ErrForeign)
	assert.ErrorContains(t, err, "row 2")

	for _, r := range [][2]int{{-1, 2}, {0, 5}, {3, 2}} {
		_, err = ReadRows(asc, s, r[0], r[1])
		assert.Error(t, err)
	}
	block := stored(sp("weight", safetensors.F8E4M3, 200, 8), sp("weight_scale_inv", f32, 2, 1))
	s, err = Lookup(block, "m", Hints{})
	require.NoError(t, err)
	_, err = ReadRows(block, s, 64, 200)
	assert.Error(t, err, "not at a block's start")
	m, err := ReadRows(block, s, 128, 200)
	require.NoError(t, err)
	assert.Equal(t, 72, m.Rows)
	assert.Equal(t, numeric.E4M3, m.Code)
}

// Configurations and descriptions come from anywhere.
func FuzzDetect(f *testing.F) {
	f.Add([]byte(ct(`{"num_bits": 4, "type": "int", "group_size": 32}`, "null", "pack-quantized")), false)
	f.Add([]byte(`{"quant_method": "fp8", "weight_block_size": [128, 128], "ignored_layers": ["a"]}`), false)
	f.Add([]byte(`{"a.weight": "W4A8_DYNAMIC", "version": "1.0.0", "group_size": 0}`), true)
	f.Add([]byte(`{"quant_method": "compressed-tensors", "config_groups": {"a": {"targets": ["re:(?!x)a"], "weights": {}}}}`), false)
	f.Fuzz(func(t *testing.T, raw []byte, ascend bool) {
		var q struct {
			Method string `json:"quant_method"`
		}
		_ = json.Unmarshal(raw, &q)
		cfg := &glm.Config{Quantization: q.Method, QuantizationConfig: raw}
		var desc []byte
		if ascend {
			desc = raw
		}
		e, err := Detect(cfg, desc)
		if err != nil {
			var ce *ConfigError
			require.ErrorAs(t, err, &ce)
			return
		}
		if d, err := e.Module("model.layers.0.mlp.gate_proj"); err == nil && d.Group < 0 {
			t.Fatalf("group of %d", d.Group)
		}
	})
}
