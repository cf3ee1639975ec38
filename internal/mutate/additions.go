package mutate

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

// ofAdditions are faults that add something: keys that engines obey, tensors
// that no GLM has.
func ofAdditions() []Fault {
	key := func(value any, path ...string) Fault {
		return Fault{Name: "key " + strings.Join(path, "."), Apply: jsonFile(configName, func(m map[string]any) bool {
			if t := objectAt(m, "text_config"); t != nil && len(path) == 1 {
				m = t
			}
			if _, ok := m[path[0]]; ok && len(path) == 1 {
				return false
			}
			if len(path) == 2 && objectAt(m, path[0]) == nil {
				if m[path[0]] != nil {
					return false
				}
				m[path[0]] = map[string]any{}
			}
			return set(value, path...)(m)
		}), Says: []string{path[len(path)-1]}}
	}
	tensor := func(name string, says []string, notes bool, fn func(s Set) bool) Fault {
		return Fault{Name: "tensor " + name, Apply: onSet(fn), Says: says, Notes: notes}
	}
	return []Fault{
		key(128, "sliding_window"),
		key(true, "use_sliding_window"),
		key([]any{"sliding_attention", "full_attention", "full_attention"}, "layer_types"),
		key(64, "attention_chunk_size"),
		key(10000, "rope_parameters", "rope_theta"),
		key(0, "num_mtp_layers"),
		key(0, "mtp_num_layers"),
		key(0, "num_mtp_modules"),
		key(0, "n_predict"),
		key(0.5, "logit_scale"),
		key(30.0, "final_logit_softcapping"),
		key(30.0, "attn_logit_softcapping"),
		key(0.2, "attention_multiplier"),
		key(0.5, "residual_multiplier"),
		key(2.0, "embedding_multiplier"),
		key(map[string]any{"AutoModelForCausalLM": "modeling_other.Other"}, "auto_map"),
		tensor("of a 13th expert", []string{"experts."}, false, func(s Set) bool {
			hit := false
			for _, n := range s.Names(func(n string) bool { return strings.Contains(n, ".1.mlp.experts.0.") }) {
				t := *s[n]
				t.Name = strings.Replace(n, ".experts.0.", ".experts.12.", 1)
				t.Data = slices.Clone(t.Data)
				s[t.Name], hit = &t, true
			}
			return hit
		}),
		tensor("fused copy of gate and up", []string{"gate_up_proj"}, false, func(s Set) bool {
			return s.addFloat(".1.mlp.experts.gate_up_proj", 8, 64, 32)
		}),
		tensor("fused copy of q, k and v", []string{"qkv_proj"}, false, func(s Set) bool { return s.addFloat(".1.self_attn.qkv_proj.weight", 96, 128) }),
		tensor("of LoRA", []string{"lora_A"}, false, func(s Set) bool { return s.addFloat(".1.self_attn.o_proj.lora_A.weight", 8, 256) }),
		tensor("of a layer that is not", []string{"layers.9"}, false, func(s Set) bool {
			p := s.prefix()
			return p != "" && s.add(p+"9.input_layernorm.weight", safetensors.BF16, s.anyFile(), 128)
		}),
		tensor("of a norm that is not", []string{"q_norm"}, false, func(s Set) bool { return s.addFloat(".1.self_attn.q_norm.weight", 64) }),
		tensor("of a bias that is not", []string{"o_proj.bias"}, false, func(s Set) bool { return s.addFloat(".1.self_attn.o_proj.bias", 128) }),
		tensor("of another embedding", []string{"embed_positions"}, false, func(s Set) bool { return s.add("model.embed_positions.weight", safetensors.BF16, s.anyFile(), 16, 128) }),
		tensor("KV scales of no declared cache", []string{"k_scale"}, true, func(s Set) bool { return s.addScales(0.05) }),
		tensor("KV scales that are 0", []string{"k_scale"}, false, func(s Set) bool { return s.addScales(0) }),
		tensor("KV scales that are no numbers", []string{"k_scale"}, false, func(s Set) bool { return s.addScales(math.NaN()) }),
		tensor("KV scales below 0", []string{"k_scale"}, false, func(s Set) bool { return s.addScales(-0.5) }),
		tensor("rot.weight in a folder that is not rotated", []string{"rot.weight"}, false, func(s Set) bool {
			return s.add("rot.weight", safetensors.F32, s.anyFile(), 128, 128)
		}),
		tensor("that an attention carries along", []string{"rotary_emb.inv_freq"}, true, func(s Set) bool { return s.addFloat(".1.self_attn.rotary_emb.inv_freq", 16) }),
	}
}

// anyFile is a file that has tensors.
func (s Set) anyFile() string {
	list := s.Names(func(n string) bool { return strings.HasSuffix(n, "norm.weight") })
	return s[list[0]].File
}

// prefix is what stands before the numbers of layers.
func (s Set) prefix() string {
	n := s.find(body + `1\.input_layernorm\.weight$`)
	return strings.TrimSuffix(n, "1.input_layernorm.weight")
}

// addFloat adds a BF16 tensor under a name below the layers.
func (s Set) addFloat(rest string, shape ...int64) bool {
	p := s.prefix()
	return p != "" && s.add(strings.TrimSuffix(p, ".")+rest, safetensors.BF16, s.anyFile(), shape...)
}

// add adds a tensor with small values.
func (s Set) add(name string, dtype safetensors.DType, file string, shape ...int64) bool {
	if s[name] != nil {
		return false
	}
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	t := &Tensor{safetensors.Spec{Name: name, DType: dtype, Shape: shape}, file, make([]byte, n*int64(dtype.Bits()/8))}
	i := 0
	t.each(func(float64) float64 { i++; return float64(i%17-8) / 100 })
	s[name] = t
	return true
}

// addScales adds scales of the key-value cache to every layer.
func (s Set) addScales(v float64) bool {
	p, hit := s.prefix(), false
	for l := range 8 {
		if s[fmt.Sprintf("%s%d.input_layernorm.weight", p, l)] == nil {
			continue
		}
		for _, part := range []string{"k_scale", "v_scale"} {
			name := fmt.Sprintf("%s%d.self_attn.%s", p, l, part)
			if s[name] == nil {
				s[name] = &Tensor{safetensors.Spec{Name: name, DType: safetensors.F32, Shape: []int64{1}}, s.anyFile(),
					binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v)))}
				hit = true
			}
		}
	}
	return hit
}

// ofLeftovers are files that do not belong to a result. They change no answer
// where engines read the index alone.
func ofLeftovers() []Fault {
	file := func(content string, names ...string) Fault {
		return Fault{Name: names[0], Apply: with(content, names...), Says: []string{names[0]}, Notes: true}
	}
	return []Fault{
		file("{\"r\": 8}\n", "adapter_config.json"),
		file("x", "model-00001-of-00002.safetensors.aria2"),
		file("x", "model-00002-of-00002.safetensors.incomplete"),
		file("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "model-00009-of-00009.safetensors"),
		file("x", "pytorch_model.bin"),
		file("x", "model-00001-of-00002.safetensors.part"),
		file("{}", "hf_quant_config.json"),
		{Name: "an adapter", Notes: true, Says: []string{"adapter_model.safetensors"}, Apply: func(m Made) (bool, error) {
			return true, newShard(m.Dir, "adapter_model.safetensors", []*Tensor{tiny("base_model.model.model.layers.1.self_attn.o_proj.lora_A.weight")})
		}},
		{Name: "a shard of another model", Says: []string{"extra.safetensors"}, Notes: true, Apply: func(m Made) (bool, error) {
			return true, newShard(m.Dir, "extra.safetensors", []*Tensor{tiny("model.layers.1.input_layernorm.weight")})
		}},
		{Name: "optional/quarot.safetensors beside the shards", Says: []string{"quarot.safetensors"}, Notes: true, Apply: func(m Made) (bool, error) {
			return true, newShard(m.Dir, "quarot.safetensors", []*Tensor{tiny("rot.weight")})
		}},
	}
}

// tiny is a tensor for files that do not belong.
func tiny(name string) *Tensor {
	return &Tensor{safetensors.Spec{Name: name, DType: safetensors.BF16, Shape: []int64{4}}, "", make([]byte, 8)}
}
