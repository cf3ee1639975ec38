package mutate

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

// staticPart matches a tensor of a static weight of layer 1.
func staticPart(module, part string) string { return attention1 + module + `\.` + part + `$` }

// ofStatic are faults of static weights that can be decided without the source.
func ofStatic() []Fault {
	in := func(name, says string, fn func(s Set) bool) Fault {
		return Fault{Name: name, Apply: onSet(fn), Says: []string{says}}
	}
	const out = `o_proj`
	one := func(part string, fn func(v float64) float64) func(Set) bool {
		return element(staticPart(out, part), 2, fn)
	}
	scalar := func(part string, fn func(v float64) float64) func(Set) bool { return all(staticPart(out, part), fn) }
	fixed := func(v float64) func(float64) float64 { return func(float64) float64 { return v } }
	return []Fault{
		in("deq_scale as float16 models have it", "deq_scale", first(staticPart(out, "deq_scale"), func(t *Tensor) bool {
			wide := make([]byte, 0, 2*len(t.Data))
			for i := 0; i < len(t.Data); i += 4 {
				wide = binary.LittleEndian.AppendUint64(wide, uint64(binary.LittleEndian.Uint32(t.Data[i:])))
			}
			t.DType, t.Data = safetensors.I64, wide
			return true
		})),
		{Name: "a float16 model", Apply: func(m Made) (bool, error) {
			static := false
			if _, err := Edit(m.Dir, func(s Set) (bool, error) { static = s.find(staticPart(out, "deq_scale")) != ""; return false, nil }); !static || err != nil {
				return false, err
			}
			return EditJSON(m.Dir, configName, func(c map[string]any) bool { delete(c, "torch_dtype"); c["dtype"] = "float16"; return true })
		}, Says: []string{"deq_scale", "float16"}},
		in("a deq_scale negative", "deq_scale", one("deq_scale", func(v float64) float64 { return -v })),
		in("a deq_scale zero", "deq_scale", one("deq_scale", fixed(0))),
		in("a deq_scale NaN", "deq_scale", one("deq_scale", fixed(math.NaN()))),
		in("a deq_scale infinite", "deq_scale", one("deq_scale", fixed(math.Inf(1)))),
		in("input_scale of q_a and kv_a unlike", "_a_proj", all(staticPart("q_a_proj", "input_scale"), func(v float64) float64 { return 1.25 * v })),
		in("input_offset of q_a and kv_a unlike", "_a_proj", all(staticPart("kv_a_proj_with_mqa", "input_offset"), func(v float64) float64 { return v + 1 })),
		in("input_scale of q, k and v unlike", "k_proj", all(staticPart("k_proj", "input_scale"), func(v float64) float64 { return 1.25 * v })),
		in("input_offset of q, k and v unlike", "v_proj", all(staticPart("v_proj", "input_offset"), func(v float64) float64 { return v + 1 })),
		in("quant_bias without the layer's bias", "q_proj", withoutBias),
		in("input_scale zero", "input_scale", scalar("input_scale", fixed(0))),
		in("input_scale negative", "input_scale", scalar("input_scale", func(v float64) float64 { return -v })),
		in("input_scale NaN", "input_scale", scalar("input_scale", fixed(math.NaN()))),
		in("input_offset beyond int8", "input_offset", scalar("input_offset", fixed(200))),
		in("input_offset no integer", "input_offset", scalar("input_offset", func(v float64) float64 { return v + 0.5 })),
		in("input_offset off by one", "quant_bias", scalar("input_offset", func(v float64) float64 { return v - 1 })),
		in("input_offset of the unsigned code", "o_proj", scalar("input_offset", func(v float64) float64 { return v + 128 })),
		in("quant_bias of zeros", "quant_bias", first(staticPart(out, "quant_bias"), func(t *Tensor) bool { old := slices.Clone(t.Data); clear(t.Data); return !slices.Equal(old, t.Data) })),
		in("quant_bias with the other sign", "quant_bias", first(staticPart(out, "quant_bias"), onInts(func(v int32) int32 { return -v }))),
		in("quant_bias of the next row", "quant_bias", first(staticPart(out, "quant_bias"), func(t *Tensor) bool {
			old := slices.Clone(t.Data)
			t.Data = append(t.Data[4:], t.Data[:4]...)
			return !slices.Equal(old, t.Data)
		})),
		in("quant_bias in float sums", "quant_bias", first(staticPart(out, "quant_bias"), onInts(func(v int32) int32 { return v + 3 }))),
		in("quant_bias lost", "quant_bias", dropAll(staticPart(out, "quant_bias"))),
		in("deq_scale lost", "o_proj", dropAll(staticPart(out, "deq_scale"))),
		in("input_offset lost", "input_offset", dropAll(staticPart(out, "input_offset"))),
		in("input_scale lost", "input_scale", dropAll(staticPart(out, "input_scale"))),
	}
}

// withoutBias makes the first quant_bias of queries what codes and input offset
// give, as for a layer that has no bias.
func withoutBias(s Set) bool {
	stem, ok := strings.CutSuffix(s.find(staticPart("q_proj", "quant_bias")), ".quant_bias")
	if !ok || s[stem+".bias"] == nil {
		return false
	}
	w, t, z := s[stem+".weight"], s[stem+".quant_bias"], int32(s[stem+".input_offset"].value())
	row, old := len(w.Data)/int(w.Shape[0]), slices.Clone(t.Data)
	for i := range int(w.Shape[0]) {
		sum := int32(0)
		for _, c := range w.Data[i*row : (i+1)*row] {
			sum += int32(int8(c))
		}
		binary.LittleEndian.PutUint32(t.Data[4*i:], uint32(-z*sum))
	}
	return !slices.Equal(old, t.Data)
}

// onInts changes values of I32.
func onInts(fn func(v int32) int32) func(t *Tensor) bool {
	return func(t *Tensor) bool {
		old := slices.Clone(t.Data)
		for i := 0; t.DType == safetensors.I32 && i < len(t.Data); i += 4 {
			binary.LittleEndian.PutUint32(t.Data[i:], uint32(fn(int32(binary.LittleEndian.Uint32(t.Data[i:])))))
		}
		return !slices.Equal(old, t.Data)
	}
}

// ofStaticScales are scales that are right as such and not those of the weight.
func ofStaticScales() []Fault {
	in := func(name, says string, fn func(s Set) bool) Fault {
		return Fault{Name: name, Apply: onSet(fn), Says: []string{says}}
	}
	twice := func(v float64) float64 { return 2 * v }
	deq := staticPart("o_proj", "deq_scale")
	return []Fault{
		in("deq_scale doubled", "o_proj", all(deq, twice)),
		in("deq_scale is the weight's scale", "o_proj", func(s Set) bool {
			n := s.find(staticPart("o_proj", "input_scale"))
			return n != "" && all(deq, func(v float64) float64 { return v / s[n].value() })(s)
		}),
		in("a deq_scale doubled", "o_proj", element(deq, 3, twice)),
		in("deq_scale of the next row", "o_proj", first(deq, rotate)),
		in("input_scale doubled", "o_proj", all(staticPart("o_proj", "input_scale"), twice)),
		in("deq_scale of q_a's and kv_a's inputs doubled", "q_a_proj", all(staticPart("q_a_proj", "deq_scale"), twice)),
	}
}

// value is the tensor's first value.
func (t *Tensor) value() (v float64) {
	i := 0
	t.each(func(x float64) float64 {
		if i == 0 {
			v = x
		}
		i++
		return x
	})
	return v
}

// ofCaches are faults of int8 caches.
func ofCaches() []Fault {
	const key, query = attention1 + `indexer\.k_rot$`, attention1 + `indexer\.q_rot$`
	zeros := func(t *Tensor) bool { clear(t.Data); return true }
	indexer := "model.layers.1.self_attn.indexer.quant_type"
	const scale, zero = attention1 + `k_proj\.kv_cache_scale$`, attention1 + `v_proj\.kv_cache_offset$`
	has := func(fn func(map[string]any) bool) func(map[string]any) bool {
		return func(m map[string]any) bool { _, ok := m[indexer]; return ok && fn(m) }
	}
	return []Fault{
		{Name: "k_rot of zeros", Apply: onSet(first(key, zeros)), Says: []string{"k_rot"}},
		{Name: "q_rot unlike k_rot", Apply: onSet(first(query, func(t *Tensor) bool {
			row := len(t.Data) / int(t.Shape[0])
			t.Data = append(slices.Clone(t.Data[row:]), t.Data[:row]...)
			return true
		})), Says: []string{"q_rot", "k_rot"}},
		{Name: "both matrices doubled", Apply: onSet(func(s Set) bool {
			return all(key, func(v float64) float64 { return 2 * v })(s) && all(query, func(v float64) float64 { return 2 * v })(s)
		}), Says: []string{"q_rot", "k_rot"}},
		{Name: "a NaN in q_rot", Apply: onSet(element(query, 4, func(float64) float64 { return math.NaN() })), Says: []string{"q_rot"}},
		{Name: "q_rot of another width", Apply: onSet(first(query, func(t *Tensor) bool {
			t.Data, t.Shape[0] = t.Data[:len(t.Data)/2], t.Shape[0]/2
			return true
		})), Says: []string{"q_rot"}},
		{Name: "k_rot lost", Apply: onSet(dropAll(key)), Says: []string{"k_rot"}},
		{Name: "both matrices lost", Apply: onSet(func(s Set) bool { return dropAll(key)(s) && dropAll(query)(s) }), Says: []string{"q_rot", "k_rot"}},
		{Name: "a kind of cache that nobody knows", Apply: jsonFile(descriptionName, has(set("QK_INT4_DYNAMIC", indexer))), Says: []string{"quant_type"}},
		{Name: "the adapter's name of the kind", Apply: jsonFile(descriptionName, has(set("QK_INT8_DYNAMIC", indexer))), Says: []string{"quant_type"}},
		{Name: "a cache scale zero", Apply: onSet(element(scale, 3, func(float64) float64 { return 0 })), Says: []string{"kv_cache_scale"}},
		{Name: "a cache scale negative", Apply: onSet(element(scale, 3, func(v float64) float64 { return -v })), Says: []string{"kv_cache_scale"}},
		{Name: "a cache scale NaN", Apply: onSet(element(scale, 3, func(float64) float64 { return math.NaN() })), Says: []string{"kv_cache_scale"}},
		{Name: "a cache offset of the unsigned code", Apply: onSet(element(zero, 2, func(v float64) float64 { return v + 200 })), Says: []string{"kv_cache_offset"}},
		{Name: "a cache offset no integer", Apply: onSet(element(zero, 2, func(v float64) float64 { return v + 0.25 })), Says: []string{"kv_cache_offset"}},
		{Name: "a layer's cache scales lost", Apply: onSet(dropAll(attention1 + `[kv]_proj\.kv_cache_`)), Says: []string{"kv_cache_scale"}},
		{Name: "the cache's kind lost", Apply: jsonFile(descriptionName, func(m map[string]any) bool {
			_, ok := m["kv_cache_type"]
			delete(m, "kv_cache_type")
			delete(m, "kv_quant_type")
			return ok
		}), Says: []string{"kv_cache"}},
		{Name: "a layer's kind lost", Apply: jsonFile(descriptionName, lose(indexer)), Says: []string{"quant_type", "k_rot"}},
	}
}

// ofCodes are codes that are not of the scales beside them.
func ofCodes() []Fault {
	rows := func(pattern string, fn func(row []byte)) func(Set) bool {
		return first(pattern, func(t *Tensor) bool {
			if t.DType != safetensors.I8 {
				return false
			}
			w := len(t.Data) / int(t.Shape[0])
			for i := 0; i < 4*w; i += w {
				fn(t.Data[i : i+w])
			}
			return true
		})
	}
	int8s := func(fn func(v int8) int8) func(row []byte) {
		return func(row []byte) {
			for i, b := range row {
				row[i] = byte(fn(int8(b)))
			}
		}
	}
	const up = body + `1\.mlp\.experts\.1\.up_proj\.weight$`
	packed := func(fn func(s Set) bool) func(Made) (bool, error) {
		return onSet(func(s Set) bool { return s.find(body+`1\.mlp\.experts\.1\.up_proj\.scale_bias$`) != "" && fn(s) })
	}
	return []Fault{
		{Name: "rows with half their codes", Apply: onSet(rows(body+`1\.mlp\.shared_experts\.up_proj\.weight$`, int8s(func(v int8) int8 { return v / 2 }))), Says: []string{"shared_experts.up_proj"}, Notes: true},
		{Name: "rows of a static weight with half their codes", Apply: onSet(func(s Set) bool {
			return s.find(staticPart("q_b_proj", "deq_scale")) != "" && rows(attention1+`q_b_proj\.weight$`, int8s(func(v int8) int8 { return v / 2 }))(s)
		}), Says: []string{"q_b_proj"}, Notes: true},
		{Name: "int4 rows with half their codes", Apply: packed(rows(up, func(row []byte) {
			for i, b := range row {
				lo, hi := int8(b<<4)>>4, int8(b)>>4
				row[i] = byte(hi/2)<<4 | byte(lo/2)&15
			}
		})), Says: []string{"experts.1.up_proj"}, Notes: true},
		{Name: "int4 codes of the other byte order", Apply: packed(rows(up, func(row []byte) {
			for i, b := range row {
				row[i] = b<<4 | b>>4
			}
		})), Says: []string{"experts.1.up_proj"}},
		{Name: "codes of a static weight all zero", Apply: onSet(func(s Set) bool {
			return s.find(staticPart("o_proj", "deq_scale")) != "" && first(attention1+`o_proj\.weight$`, func(t *Tensor) bool { clear(t.Data); return true })(s)
		}), Says: []string{"o_proj"}},
		{Name: "codes of int4 experts all zero", Apply: packed(first(up, func(t *Tensor) bool { clear(t.Data); return true })), Says: []string{"experts.1.up_proj"}},
		{Name: "codes and deq_scale of the next row", Apply: onSet(func(s Set) bool {
			hit := false
			for _, n := range []string{"weight", "deq_scale", "quant_bias"} {
				if t := s[s.find(staticPart("o_proj", n))]; t != nil && s.find(staticPart("o_proj", "deq_scale")) != "" {
					w := len(t.Data) / int(t.Shape[0])
					t.Data, hit = append(slices.Clone(t.Data[w:]), t.Data[:w]...), true
				}
			}
			return hit
		}), Says: []string{"o_proj"}},
	}
}

// Mixed makes static weights of a result those of W8A8_MIX, as msmodelslim has
// them: the dynamic set beside the static one.
func Mixed(dir string) (bool, error) {
	entries := map[string]bool{}
	hit, err := Edit(dir, func(s Set) (bool, error) {
		for _, n := range s.Names(func(n string) bool { return strings.HasSuffix(n, ".deq_scale") }) {
			module := strings.TrimSuffix(n, ".deq_scale")
			deq, in := s[n], s[module+".input_scale"]
			scale := &Tensor{safetensors.Spec{Name: module + ".weight_scale", DType: safetensors.F32, Shape: []int64{deq.Shape[0], 1}}, deq.File, slices.Clone(deq.Data)}
			by := in.value()
			scale.each(func(v float64) float64 { return float64(math.Float32frombits(uint32(bf16(float32(v/by))) << 16)) })
			s[scale.Name] = scale
			s[module+".weight_offset"] = &Tensor{safetensors.Spec{Name: module + ".weight_offset", DType: safetensors.F32, Shape: scale.Shape}, deq.File, make([]byte, len(deq.Data))}
			for _, p := range []string{"weight", "weight_scale", "weight_offset", "deq_scale", "quant_bias", "input_scale", "input_offset"} {
				entries[module+"."+p] = true
			}
		}
		return len(entries) > 0, nil
	})
	if err != nil || !hit {
		return hit, err
	}
	return EditJSON(dir, descriptionName, func(m map[string]any) bool {
		for n := range entries {
			m[n] = "W8A8_MIX"
		}
		m["model_quant_type"] = "W8A8_MIX"
		return true
	})
}
