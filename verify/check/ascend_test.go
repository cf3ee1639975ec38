package check

import (
	"encoding/binary"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
)

func scalar(name string, v float32) tensor {
	return tensor{safetensors.Spec{Name: name, DType: safetensors.F32, Shape: []int64{1}}, float(safetensors.F32, v)}
}

// static makes the attention of a W8A8_DYNAMIC folder static W8A8, with made-up
// activation ranges, as msmodelslim stores it.
func static(t *testing.T, dir, scheme string) {
	t.Helper()
	const scale, offset = 0.04, 7
	entries := map[string]any{}
	retensor(t, dir, func(x tensor) []tensor {
		module, param, _ := cut(x.Name)
		if !strings.Contains(module, "self_attn.") || strings.Contains(module, "layers.3.") {
			return []tensor{x}
		}
		switch {
		case param == "weight_offset" && scheme == "W8A8":
			return nil
		case param == "weight_scale":
			deq := tensor{safetensors.Spec{Name: module + ".deq_scale", DType: safetensors.F32, Shape: x.Shape[:1]}, nil}
			for i := 0; i < len(x.data); i += 4 {
				deq.data = append(deq.data, float(safetensors.F32, scale*math.Float32frombits(binary.LittleEndian.Uint32(x.data[i:])))...)
			}
			out := []tensor{deq}
			if scheme != "W8A8" {
				out = append(out, x)
			}
			return out
		case param != "weight" || x.DType != safetensors.I8:
			return []tensor{x}
		}
		bias := tensor{safetensors.Spec{Name: module + ".quant_bias", DType: safetensors.I32, Shape: x.Shape[:1]}, nil}
		for n := range x.Shape[0] {
			sum := int32(0)
			for _, b := range x.data[n*x.Shape[1] : (n+1)*x.Shape[1]] {
				sum += int32(int8(b))
			}
			bias.data = binary.LittleEndian.AppendUint32(bias.data, uint32(-offset*sum))
		}
		for _, p := range []string{"weight", "weight_scale", "weight_offset", "quant_bias", "input_scale", "input_offset", "deq_scale"} {
			entries[module+"."+p] = scheme
		}
		return []tensor{x, bias, scalar(module+".input_scale", scale), scalar(module+".input_offset", offset)}
	})
	edit(t, dir, "quant_model_description.json", func(m map[string]any) {
		maps.Copy(m, entries)
		if scheme == "W8A8" {
			for k := range entries {
				if strings.HasSuffix(k, ".weight_scale") || strings.HasSuffix(k, ".weight_offset") {
					delete(m, k)
				}
			}
		}
	})
}

func cut(name string) (module, param string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	return name[:i], name[i+1:], i > 0
}

// rotated makes a folder look like msmodelslim's QuaRot leaves it: gains of 1
// and rot.weight. What the other weights hold does not matter here.
func rotated(t *testing.T, dir string, draft, matrix, flag bool) {
	t.Helper()
	const hidden = 128
	retensor(t, dir, func(x tensor) []tensor {
		if strings.HasSuffix(x.Name, "norm.weight") && !strings.Contains(x.Name, "k_norm") && (draft || !strings.Contains(x.Name, "layers.3.")) {
			x.data = nil
			for range x.Shape[0] {
				x.data = append(x.data, float(x.DType, 1)...)
			}
		}
		return []tensor{x}
	})
	if matrix {
		rot := make([]byte, 0, 2*hidden*hidden)
		for i := range hidden * hidden {
			v := float32(0)
			if i/hidden == i%hidden {
				v = 1.5
			}
			rot = append(rot, float(safetensors.BF16, v)...)
		}
		addFile(t, dir, "rot.safetensors", tensor{safetensors.Spec{Name: rotName, DType: safetensors.BF16, Shape: []int64{hidden, hidden}}, rot})
	}
	if flag {
		edit(t, dir, "quant_model_description.json", func(m map[string]any) { m["is_rot_used"] = true })
	}
}

// addFile writes one tensor into a file of its own.
func addFile(t *testing.T, dir, name string, x tensor) {
	t.Helper()
	plan, err := safetensors.PlanFile(name, []safetensors.Spec{x.Spec}, nil)
	require.NoError(t, err)
	w, err := safetensors.Create(quick{fsx.OS}, dir, plan)
	require.NoError(t, err)
	_, err = w.Write(x.data)
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
	index := filepath.Join(dir, "quant_model_weights.safetensors.index.json")
	if _, err := os.Stat(index); err == nil {
		edit(t, dir, filepath.Base(index), func(m map[string]any) {
			m["weight_map"].(map[string]any)[x.Name] = name
			meta := m["metadata"].(map[string]any)
			meta["total_size"] = meta["total_size"].(float64) + float64(len(x.data))
		})
	}
}

// TestAscendFolders: what can be decided of static and rotated folders without
// their source, and folders of other schemes that are sound.
func TestAscendFolders(t *testing.T) {
	const base, glm4 = "nano-glm5 w8a8 ascend", int8Asc
	attn := "model.layers.1.self_attn."
	set := func(name string, v float32) func(*testing.T, string) {
		return func(t *testing.T, dir string) { static(t, dir, "W8A8"); retensor(t, dir, one(named(name), put(v))) }
	}
	for _, tc := range []struct {
		name, base string
		damage     func(t *testing.T, dir string)
		options    Options
		code       string // of the finding, "" for a sound folder
		verdict    string // of vllm-ascend
		ok         bool
	}{
		{"static attention", base, func(t *testing.T, dir string) { static(t, dir, "W8A8") }, Options{}, "", "loads", true},
		{"static and dynamic", base, func(t *testing.T, dir string) { static(t, dir, "W8A8_MIX") }, Options{}, "", "loads", true},
		{"biases that are in no quant_bias", glm4, func(t *testing.T, dir string) { static(t, dir, "W8A8") }, Options{}, "static-quant-bias", "differs", false},
		{"offset out of range", base, set(attn+"o_proj.input_offset", 200), Options{}, "static-offset", "differs", false},
		{"offset no integer", base, set(attn+"o_proj.input_offset", 6.5), Options{}, "static-offset", "differs", false},
		{"another offset", base, set(attn+"o_proj.input_offset", 8), Options{}, "static-quant-bias", "differs", false},
		{"fused inputs differ", base, set(attn+"q_a_proj.input_scale", 0.05), Options{}, "static-shared-input", "differs", false},
		{"a negative scale", base, set(attn+"o_proj.deq_scale", -1), Options{}, "static-deq-scale", "differs", false},
		{"float16 and F32", base, func(t *testing.T, dir string) {
			static(t, dir, "W8A8")
			edit(t, dir, "config.json", func(m map[string]any) { m["dtype"] = "float16"; delete(m, "torch_dtype") })
		}, Options{}, "static-deq-scale", "differs", false},

		{"rotated", base, func(t *testing.T, dir string) { rotated(t, dir, true, true, true) }, Options{}, "", "loads", true},
		{"no rot.weight", base, func(t *testing.T, dir string) { rotated(t, dir, true, false, false) }, Options{}, "rot-missing", "loads", true},
		{"the flag alone", base, func(t *testing.T, dir string) { rotated(t, dir, true, false, true) }, Options{}, "rot-missing", "differs", false},
		{"no flag", base, func(t *testing.T, dir string) { rotated(t, dir, true, true, false) }, Options{}, "rot-unflagged", "refuses", false},
		{"another MTP layer", base, func(t *testing.T, dir string) { rotated(t, dir, false, true, true) }, Options{}, "rotation-mixed", "differs", false},
		{"rot of zeros", base, func(t *testing.T, dir string) {
			rotated(t, dir, true, true, true)
			retensor(t, dir, one(named(rotName), func(x tensor) []tensor { clear(x.data); return []tensor{x} }))
		}, Options{}, "rot-wrong", "differs", false},
		{"a row of rot too few", base, func(t *testing.T, dir string) {
			rotated(t, dir, true, true, true)
			retensor(t, dir, one(named(rotName), shorter))
		}, Options{}, "rot-wrong", "differs", false},
		{"rows of rot shifted", base, func(t *testing.T, dir string) {
			rotated(t, dir, true, true, true)
			retensor(t, dir, one(named(rotName), func(x tensor) []tensor {
				row := len(x.data) / 128
				x.data = append(append([]byte{}, x.data[row:]...), x.data[:row]...)
				return []tensor{x}
			}))
		}, Options{}, "rot-wrong", "differs", false},
		{"said to be rotated", base, func(t *testing.T, dir string) {
			rotated(t, dir, true, true, true)
			retensor(t, dir, one(named("model.norm.weight"), put(1.5)))
		}, Options{}, "rotation-mixed", "loads", true},
		{"rot in GLM-4.x", glm4, description(func(m map[string]any) { m["is_rot_used"] = true }), Options{}, "rot-family", "refuses", false},

		{"name of the first interface", base, func(t *testing.T, dir string) {
			old := filepath.Join(dir, "quant_model_description.json")
			require.NoError(t, os.Rename(old, filepath.Join(dir, "quant_model_description_w8a8_dynamic.json")))
			require.NoError(t, os.Remove(filepath.Join(dir, quant.ManifestName)))
		}, Options{}, "description-name", "refuses", false},
		{"version, asked of an old release", int4Asc, description(func(m map[string]any) { delete(m, "version") }),
			Options{Engines: []string{"vllm-ascend@0.25"}}, "description-version", "refuses", false},
		{"group_size, asked of an old release", int4Asc, description(func(m map[string]any) { delete(m, "group_size") }),
			Options{Engines: []string{"vllm-ascend@0.18"}}, "description-group-size", "differs", false},
		{"both, W8A8 only", int8Asc, description(func(m map[string]any) { delete(m, "version"); delete(m, "group_size") }),
			Options{Engines: []string{"vllm-ascend@0.18"}}, "", "loads", true},
		{"no entry for indexer.wk", base, description(func(m map[string]any) { delete(m, "model.layers.1.self_attn.indexer.wk.weight") }), Options{},
			"description-entry-missing", "loads", true},
		{"no entry for indexer.wk, 0.18", base, description(func(m map[string]any) { delete(m, "model.layers.1.self_attn.indexer.wk.weight") }),
			Options{Engines: []string{"vllm-ascend@0.18"}}, "description-entry-missing", "refuses", false},
		{"shared indexers in an old release", "nano-glm52 w8a8 ascend", func(*testing.T, string) {}, Options{Engines: []string{"vllm-ascend@0.22"}},
			"engine-refuses", "refuses", false},
		{"shared indexers", "nano-glm52 w8a8 ascend", func(*testing.T, string) {}, Options{Engines: []string{"vllm-ascend@0.23"}}, "", "loads", true},
		{"experts of W8A8_MIX, newest", base, description(func(m map[string]any) {
			for k := range m {
				if strings.Contains(k, ".mlp.experts.") {
					m[k] = "W8A8_MIX"
				}
			}
		}), Options{}, "description-scheme", "refuses", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := good(t, tc.base)
			tc.damage(t, dir)
			r := examine(t, dir, tc.options)
			assert.Equal(t, tc.ok, r.OK, "%s", r.Text())
			if tc.code != "" {
				assert.True(t, r.Has(tc.code), "no %s:\n%s", tc.code, r.Text())
			} else {
				for _, f := range r.Findings {
					assert.True(t, f.Severity == Info || f.Engine == "sglang", "%+v", f)
				}
			}
			assert.Equal(t, tc.verdict, verdicts(r)["vllm-ascend"], "%s", r.Text())
		})
	}
}
