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

		{"codes of static rows halved", base, func(t *testing.T, dir string) {
			retensor(t, dir, one(named(attn+"o_proj.weight"), halved(halfInt8)))
			static(t, dir, "W8A8")
		}, Options{Weights: true, NoHashes: true}, "codes-short", "loads", true},
		{"static attention, every weight", base, func(t *testing.T, dir string) { static(t, dir, "W8A8") }, Options{Weights: true, NoHashes: true}, "", "loads", true},

		{"rotated", base, func(t *testing.T, dir string) { rotated(t, dir, true, true, true) }, Options{}, "", "loads", true},
		{"no rot.weight", base, func(t *testing.T, dir string) { rotated(t, dir, true, false, false) }, Options{}, "rot-missing", "loads", true},
		{"the flag alone", base, func(t *testing.T, dir string) { rotated(t, dir, true, false, true) }, Options{}, "rot-missing", "differs", false},
		{"no flag", base, func(t *testing.T, dir string) { rotated(t, dir, true, true, false) }, Options{}, "rot-unflagged", "refuses", false},
		{"no matrix beside it", base, func(t *testing.T, dir string) {
			rotated(t, dir, true, true, true)
			edit(t, dir, "quant_model_description.json", func(m map[string]any) {
				m["optional"] = map[string]any{"quarot": map[string]any{"rotation_map": map[string]any{"global_rotation": "optional/quarot.safetensors"}}}
			})
		}, Options{}, "rot-file", "loads", true},
		{"scales of W8A8_MIX unlike", base, func(t *testing.T, dir string) {
			static(t, dir, "W8A8_MIX")
			retensor(t, dir, one(named(attn+"o_proj.deq_scale"), put(1)))
		}, Options{}, "static-deq-scale", "differs", false},
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

// cached makes a folder's indexer one with an int8 cache in layer 1, as
// msmodelslim stores it: signed unit matrices stand for the Hadamard ones.
func cached(t *testing.T, dir string) {
	t.Helper()
	const indexer = "model.layers.1.self_attn.indexer"
	retensor(t, dir, func(x tensor) []tensor {
		if x.Name != indexer+".wk.weight" {
			return []tensor{x}
		}
		n := int(x.Shape[0])
		var m []byte
		for i := range n * n {
			m = append(m, float(safetensors.BF16, map[bool]float32{true: float32(1 - 2*(i%3%2))}[i/n == i%n])...)
		}
		shape := []int64{int64(n), int64(n)}
		return []tensor{x, {safetensors.Spec{Name: indexer + ".q_rot", DType: safetensors.BF16, Shape: shape}, m},
			{safetensors.Spec{Name: indexer + ".k_rot", DType: safetensors.BF16, Shape: shape}, append([]byte{}, m...)}}
	})
	edit(t, dir, "quant_model_description.json", func(m map[string]any) {
		m["indexer_quant_type"], m[indexer+".quant_type"] = "INT8_DYNAMIC", "INT8_DYNAMIC"
		m[indexer+".q_rot"], m[indexer+".k_rot"] = "FLOAT", "FLOAT"
	})
}

// grouped gives GLM-4.x scales of an int8 cache of keys and values.
func grouped(t *testing.T, dir string) {
	t.Helper()
	retensor(t, dir, func(x tensor) []tensor {
		module, param, _ := cut(x.Name)
		if param != "weight" || !strings.HasSuffix(module, ".k_proj") && !strings.HasSuffix(module, ".v_proj") {
			return []tensor{x}
		}
		out := []tensor{x}
		for p, v := range map[string]float32{"kv_cache_scale": 0.05, "kv_cache_offset": -3} {
			y := tensor{safetensors.Spec{Name: module + "." + p, DType: safetensors.F32, Shape: x.Shape[:1]}, nil}
			for range x.Shape[0] {
				y.data = append(y.data, float(safetensors.F32, v)...)
			}
			out = append(out, y)
		}
		return out
	})
	edit(t, dir, "quant_model_description.json", func(m map[string]any) {
		m["kv_cache_type"], m["kv_quant_type"] = "C8", "C8"
		for k := range m {
			for _, end := range []string{".k_proj.weight", ".v_proj.weight"} {
				if module, ok := strings.CutSuffix(k, end); ok {
					m[module+end[:7]+".kv_cache_scale"], m[module+end[:7]+".kv_cache_offset"] = "C8", "C8"
				}
			}
		}
	})
}

// TestInt8Caches: what caches in int8 need is there, and is what it must be.
func TestInt8Caches(t *testing.T) {
	const base, indexer, key = "nano-glm5 w8a8 ascend", "model.layers.1.self_attn.indexer", "model.layers.1.self_attn.k_proj"
	on := func(make func(*testing.T, string), name string, fn func(tensor) []tensor) func(*testing.T, string) {
		return func(t *testing.T, dir string) { make(t, dir); retensor(t, dir, one(named(name), fn)) }
	}
	says := func(key string, v any) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			cached(t, dir)
			edit(t, dir, "quant_model_description.json", func(m map[string]any) {
				if m[key] = v; v == nil {
					delete(m, key)
				}
			})
		}
	}
	for _, tc := range []struct {
		name, base string
		damage     func(t *testing.T, dir string)
		code       string // "" for a sound folder
	}{
		{"of the indexer", base, cached, ""},
		{"of keys and values", int8Asc, grouped, ""},
		{"no k_rot", base, on(cached, indexer+".k_rot", func(tensor) []tensor { return nil }), "cache-missing"},
		{"k_rot of zeros", base, on(cached, indexer+".k_rot", func(x tensor) []tensor { clear(x.data); return []tensor{x} }), "cache-rotation"},
		{"a row of q_rot too few", base, on(cached, indexer+".q_rot", shorter), "cache-rotation"},
		{"a sign of q_rot", base, on(cached, indexer+".q_rot", func(x tensor) []tensor { x.data[1] ^= 0x80; return []tensor{x} }), "cache-rotation"},
		{"the adapter's name", base, says(indexer+".quant_type", "QK_INT8_DYNAMIC"), "cache-kind"},
		{"the model's key alone", base, func(t *testing.T, dir string) {
			edit(t, dir, "quant_model_description.json", func(m map[string]any) { m["indexer_quant_type"] = "INT8_DYNAMIC" })
		}, "cache-half-declared"},
		{"the layers' keys alone", base, says("indexer_quant_type", nil), "cache-half-declared"},
		{"a layer that is not named", base, says(indexer+".quant_type", nil), "cache-undeclared"},
		{"a layer without scales", int8Asc, on(grouped, key+".kv_cache_scale", func(tensor) []tensor { return nil }), "cache-missing"},
		{"an offset of unsigned codes", int8Asc, on(grouped, key+".kv_cache_offset", put(125.5)), "cache-offset"},
		{"scales of half the channels", int8Asc, on(grouped, key+".kv_cache_scale", func(x tensor) []tensor {
			x.Shape, x.data = []int64{x.Shape[0] / 2}, x.data[:len(x.data)/2]
			return []tensor{x}
		}), "companion-shape"},
		{"scales in int8", int8Asc, on(grouped, key+".kv_cache_scale", func(x tensor) []tensor {
			x.DType, x.data = safetensors.I8, x.data[:len(x.data)/4]
			return []tensor{x}
		}), "companion-dtype"},
		{"a scale of zero", int8Asc, on(grouped, key+".kv_cache_scale", put(0)), "scale-zero"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := good(t, tc.base)
			tc.damage(t, dir)
			r := examine(t, dir, Options{Weights: true})
			assert.Equal(t, tc.code == "" || tc.code == "cache-half-declared", r.OK, "%s", r.Text())
			if tc.code != "" {
				assert.True(t, r.Has(tc.code), "no %s:\n%s", tc.code, r.Text())
			}
		})
	}
}

// TestMTPWithoutCacheScales: published W8A8C8 folders give the trunk's caches
// scales and leave the MTP layer's as it is.
func TestMTPWithoutCacheScales(t *testing.T) {
	dir := good(t, "nano-glm4moe w8a8 ascend")
	withCacheScales(3, 0.05)(t, dir)
	retensor(t, dir, func(x tensor) []tensor {
		for _, p := range []string{"k", "v"} {
			if module, ok := strings.CutSuffix(x.Name, ".self_attn."+p+"_scale"); ok {
				scale, offset := x, x
				scale.Name, offset.Name = module+".self_attn."+p+"_proj.kv_cache_scale", module+".self_attn."+p+"_proj.kv_cache_offset"
				offset.data = make([]byte, len(x.data))
				return []tensor{scale, offset}
			}
		}
		return []tensor{x}
	})
	description(func(m map[string]any) { m["kv_cache_type"], m["kv_quant_type"] = "C8", "C8" })(t, dir)
	for _, f := range examine(t, dir, Options{}).Findings {
		if f.Code == "cache-missing" {
			t.Errorf("%s: %s", f.Where, f.Detail)
		}
	}
}
