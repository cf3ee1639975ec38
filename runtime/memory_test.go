package runtime

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// memory is a checkpoint in memory.
type memory struct {
	infos map[string]safetensors.Info
	data  map[string][]byte
}

func newMemory() *memory { return &memory{map[string]safetensors.Info{}, map[string][]byte{}} }

func (m *memory) add(name string, d safetensors.DType, data []byte, shape ...int64) {
	m.infos[name] = safetensors.Info{Name: name, DType: d, Shape: shape, File: "memory", Size: int64(len(data))}
	m.data[name] = data
}

func (m *memory) remove(name string) { delete(m.infos, name); delete(m.data, name) }

func (m *memory) Info(name string) (safetensors.Info, bool) { i, ok := m.infos[name]; return i, ok }

func (m *memory) ReadAt(t safetensors.Info, off int64, p []byte) error {
	if d := m.data[t.Name]; off >= 0 && off+int64(len(p)) <= int64(len(d)) {
		copy(p, d[off:])
		return nil
	}
	return fmt.Errorf("%s: %d bytes at %d of %d", t.Name, len(p), off, len(m.data[t.Name]))
}

func (m *memory) Tensors() []safetensors.Info {
	out := make([]safetensors.Info, 0, len(m.infos))
	for _, k := range slices.Sorted(maps.Keys(m.infos)) {
		out = append(out, m.infos[k])
	}
	return out
}

// random fills the table of a config with weights of sensible size.
func random(cfg *glm.Config, seed uint64) *memory {
	m, r := newMemory(), rand.New(rand.NewPCG(seed, 7))
	for _, t := range cfg.Table() {
		if t.Optional {
			continue
		}
		x := make([]float32, t.Elements())
		for i := range x {
			switch {
			case t.Role == glm.RouterBias:
				x[i] = 7 + float32(r.NormFloat64()*0.1)
			case t.Param == "bias":
				x[i] = float32(r.NormFloat64() * 0.1)
			case len(t.Shape) == 1:
				x[i] = 1 + float32(r.NormFloat64()*0.1)
			default:
				x[i] = float32(r.NormFloat64() * 0.15)
			}
		}
		if t.DType == safetensors.F32 {
			m.add(t.Name, t.DType, numeric.AppendF32(nil, x), t.Shape...)
		} else {
			m.add(t.Name, safetensors.BF16, numeric.AppendBF16(nil, x), t.Shape...)
		}
	}
	return m
}

// tinyConfig is a glm4_moe config of a few dozen dimensions.
func tinyConfig(t require.TestingT, edit map[string]any) *glm.Config {
	c := map[string]any{
		"model_type": "glm4_moe", "architectures": []string{"Glm4MoeForCausalLM"}, "hidden_act": "silu",
		"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
		"partial_rotary_factor": 0.5, "rope_theta": 10000, "rms_norm_eps": 1e-5, "attention_bias": true, "use_qk_norm": true,
		"intermediate_size": 40, "moe_intermediate_size": 16, "n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2,
		"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.5,
		"num_nextn_predict_layers": 1, "vocab_size": 48, "max_position_embeddings": 512, "eos_token_id": []int{1, 2}, "tie_word_embeddings": false,
	}
	maps.Copy(c, edit)
	data, err := json.Marshal(c)
	require.NoError(t, err)
	cfg, err := glm.ParseConfig(data)
	require.NoError(t, err)
	return cfg
}

func resident(t require.TestingT, cfg *glm.Config, src Source, o Options) *Model {
	p, err := NewResident(cfg, src)
	require.NoError(t, err)
	m, err := New(cfg, p, o)
	require.NoError(t, err)
	return m
}

// ctGroup is a config group of compressed-tensors and what it does to weights.
type ctGroup struct {
	name      string
	code      numeric.Code
	block     [2]int // 0: the whole row
	act       map[string]any
	weights   map[string]any
	keepFloat func(t glm.Tensor) bool
}

var (
	ctFP8   = ctGroup{name: "FP8_DYNAMIC", code: numeric.E4M3, block: [2]int{1, 0}, weights: args(8, "float", "channel", 0), act: args(8, "float", "token", 0)}
	ctBlock = ctGroup{name: "FP8_BLOCK", code: numeric.E4M3, block: [2]int{128, 128}, weights: blockArgs(), act: args(8, "float", "group", 128)}
	ctW8A8  = ctGroup{name: "W8A8", code: numeric.Int8, block: [2]int{1, 0}, weights: args(8, "int", "channel", 0), act: args(8, "int", "token", 0)}
	ctW4A8  = ctGroup{name: "W4A8", code: numeric.Int4, block: [2]int{1, 128}, weights: args(4, "int", "group", 128), act: args(8, "int", "token", 0),
		keepFloat: func(t glm.Tensor) bool { return t.Shape[1]%128 != 0 }}
	ctMXFP4   = ctGroup{name: "MXFP4", code: numeric.E2M1, block: [2]int{1, 32}, weights: mxArgs(4), act: mxArgs(4)}
	ctMXFP8   = ctGroup{name: "MXFP8", code: numeric.E4M3, block: [2]int{1, 32}, weights: mxArgs(8), act: mxArgs(8)}
	ctSchemes = []ctGroup{ctFP8, ctBlock, ctW8A8, ctW4A8}
)

func args(bits int, typ, strategy string, group int) map[string]any {
	a := map[string]any{"num_bits": bits, "type": typ, "strategy": strategy, "dynamic": false, "symmetric": true}
	if group > 0 {
		a["group_size"] = group
	}
	return a
}

func mxArgs(bits int) map[string]any {
	a := args(bits, "float", "group", 32)
	a["scale_dtype"] = "uint8"
	return a
}

func blockArgs() map[string]any {
	a := args(8, "float", "block", 0)
	a["block_structure"] = []int{128, 128}
	return a
}

// quantized returns the config and tensors of a reference checkpoint quantised
// with llm-compressor's arithmetic, as compressed-tensors stores it.
func quantized(t require.TestingT, dir string, g ctGroup, rule numeric.Arith) (*glm.Config, *memory) {
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	var c map[string]any
	require.NoError(t, json.Unmarshal(raw, &c))
	var act any
	if g.act != nil {
		a := maps.Clone(g.act)
		a["dynamic"] = true
		act = a
	}
	c["quantization_config"] = map[string]any{"quant_method": "compressed-tensors", "format": "any",
		"config_groups": map[string]any{"group_0": map[string]any{"targets": []string{"Linear"}, "weights": g.weights, "input_activations": act}}}
	raw, err = json.Marshal(c)
	require.NoError(t, err)
	cfg, err := glm.ParseConfig(raw)
	require.NoError(t, err)
	ckpt, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer ckpt.Close()
	m := newMemory()
	for _, info := range ckpt.Tensors() {
		data := make([]byte, info.Size)
		require.NoError(t, ckpt.ReadAt(info, 0, data))
		row := cfg.Lookup(info.Name)
		if row == nil || !row.Role.IsLinear() || row.Param != "weight" || g.keepFloat != nil && g.keepFloat(*row) {
			m.add(info.Name, info.DType, data, info.Shape...)
			continue
		}
		g.store(t, m, *row, data, rule)
	}
	return cfg, m
}

func (g ctGroup) store(t require.TestingT, m *memory, row glm.Tensor, data []byte, rule numeric.Arith) {
	rows, cols := int(row.Shape[0]), int(row.Shape[1])
	x := make([]float32, rows*cols)
	numeric.DecodeBF16(x, data)
	spec := numeric.Spec{Code: g.code, Rule: numeric.CompressedTensors, Arith: rule, BlockRows: g.block[0], BlockCols: g.block[1]}
	if g.weights["scale_dtype"] == "uint8" {
		spec.Rule = numeric.MX
	}
	q, _, err := numeric.Quantize(spec, x, rows, cols, nil)
	require.NoError(t, err)
	if q.ScaleCodes != nil {
		m.add(row.Module+".weight_scale", safetensors.U8, q.ScaleCodes, int64(q.ScaleRows()), int64(q.ScaleCols()))
		if g.code == numeric.E2M1 {
			m.add(row.Module+".weight_packed", safetensors.U8, q.Codes, row.Shape[0], row.Shape[1]/2)
		} else {
			m.add(row.Module+".weight", safetensors.F8E4M3, q.Codes, row.Shape...)
		}
		return
	}
	m.add(row.Module+".weight_scale", safetensors.BF16, numeric.AppendBF16(nil, q.Scales), int64(q.ScaleRows()), int64(q.ScaleCols()))
	switch {
	case g.code == numeric.E4M3:
		m.add(row.Module+".weight", safetensors.F8E4M3, q.Codes, row.Shape...)
	case g.code == numeric.Int4 && g.name != "W4A8":
		m.add(row.Module+".weight_packed", safetensors.I32, numeric.AppendInt4Words(nil, q.Codes, cols), row.Shape[0], row.Shape[1]/8)
	case g.code == numeric.Int4:
		m.add(row.Module+".weight", safetensors.I8, numeric.UnpackNibbles(nil, q.Codes, cols), row.Shape...)
	default:
		m.add(row.Module+".weight", safetensors.I8, q.Codes, row.Shape...)
	}
}

func reference(t testing.TB, name string) string { return testkit.Shared(t, "reference/"+name) }
