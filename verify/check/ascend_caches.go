package check

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// Ends of the keys by which a description names a layer's int8 cache, and the
// kinds that vllm-ascend registers for them (docs/facts/engine-vllm-ascend.md 1.1).
const (
	indexerKind = ".self_attn.indexer.quant_type"
	latentKind  = ".self_attn.quant_type"
	indexerKey  = "indexer_quant_type" // of the whole model
)

var cacheKinds = []string{"INT8_DYNAMIC", "FAKQuant"}

// checkInt8Caches judges what an Ascend folder stores and says of caches in int8
// (docs/facts/ascend.md 2.6): engines take whatever is there.
func (s *subject) checkInt8Caches(ctx context.Context, meter *meter) error {
	if !s.ascend || s.model == nil {
		return nil
	}
	model, layers := s.says(indexerKey) != "", 0
	for _, key := range slices.Sorted(maps.Keys(s.desc)) {
		module, isIndexer := strings.CutSuffix(key, indexerKind)
		if !isIndexer && !strings.HasSuffix(key, latentKind) && key != indexerKey {
			continue
		}
		if isIndexer {
			layers++
		}
		if kind := s.says(key); !slices.Contains(cacheKinds, kind) {
			s.add("cache-kind", key, "it is %q, engines know %s", kind, strings.Join(cacheKinds, " and "))
		}
		if isIndexer {
			s.expectCache(module+".self_attn.indexer", "q_rot", "k_rot")
		}
	}
	switch {
	case model && layers == 0:
		s.add("cache-half-declared", s.description, "it has %s and no layer's indexer.quant_type", indexerKey)
	case !model && layers > 0:
		s.add("cache-half-declared", s.description, "it has %d layers' indexer.quant_type and no %s", layers, indexerKey)
	}
	if s.cacheC8() && !s.cfg.LatentAttention() {
		// Published folders leave the MTP layer's cache as it is: it needs scales if it has any.
		mtp := s.cfg.LayerPrefix(s.cfg.Layers)
		drafts := slices.ContainsFunc(s.cacheScales(), func(t safetensors.Info) bool { return strings.HasPrefix(t.Name, mtp) })
		for _, m := range s.modules {
			if r := m.row.Role; (r == glm.AttnK || r == glm.AttnV) && (drafts || !m.row.MTP) {
				s.expectCache(m.row.Module, "kv_cache_scale", "kv_cache_offset")
				s.cacheChannels(m)
			}
		}
	}
	for _, t := range s.ckpt.Tensors() {
		var err error
		switch module, _ := glm.ModuleOf(t.Name); {
		case strings.HasSuffix(t.Name, ".indexer.q_rot"):
			meter.expect(2 * t.Size)
			err = s.keyRotations(ctx, module)
			meter.add(2 * t.Size)
		case strings.HasSuffix(t.Name, ".kv_cache_offset") && isFloat(t.DType):
			err = s.cacheOffsets(ctx, t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expectCache names the tensors of a cache that the description asks for.
func (s *subject) expectCache(module string, params ...string) {
	for _, p := range params {
		name := module + "." + p
		if _, ok := s.tensors[name]; !ok {
			s.add("cache-missing", name, "the description says that this layer's cache is in int8")
		}
	}
}

// cacheChannels: a scale and an offset for every channel of the keys or values.
func (s *subject) cacheChannels(m *module) {
	for _, p := range []string{"kv_cache_scale", "kv_cache_offset"} {
		t, ok := s.tensors[m.row.Module+"."+p]
		switch {
		case !ok: // cache-missing
		case !isFloat(t.DType):
			s.add("companion-dtype", t.Name, "it is %s, engines read floating-point numbers", t.DType)
		case t.Elements() != m.o:
			s.add("companion-shape", t.Name, "it has %d values, the cache %d channels", t.Elements(), m.o)
		}
	}
}

// keyRotations: index queries times q_rot and keys times k_rot have the products
// of queries and keys, so that q_rot·k_rotᵀ is the unit matrix.
func (s *subject) keyRotations(ctx context.Context, module string) error {
	layer, _ := strings.CutSuffix(module, ".self_attn.indexer")
	if s.says(layer+indexerKind) == "" {
		s.add("cache-undeclared", s.description+": "+layer+indexerKind, "%s.q_rot is there and the description names no int8 cache of this layer", module)
	}
	d := int64(s.cfg.IndexHeadDim)
	var m [2][]float32
	for i, p := range []string{".q_rot", ".k_rot"} {
		t, ok := s.tensors[module+p]
		if !ok {
			return nil // cache-missing, or nothing to compare with
		}
		if !isFloat(t.DType) || !slices.Equal(t.Shape, []int64{d, d}) {
			s.add("cache-rotation", t.Name, "it is %s %v, heads of the indexer are %d wide: [%d %d] is needed", t.DType, t.Shape, d, d, d)
			return nil
		}
		m[i] = make([]float32, d*d)
		if err := s.eachFloat(ctx, t, func(at int64, v float32) { m[i][at] = v }); err != nil {
			return err
		}
	}
	at, off, err := farFromUnit(ctx, m[0], m[1], int(d))
	if err != nil {
		return err
	}
	if !(off <= unitSlack) {
		s.add("cache-rotation", module+".q_rot", "q_rot times k_rot, transposed, is %.3g away from the unit matrix in row %d: scores are not those of queries and keys", off, at)
	}
	return nil
}

// unitSlack is what rounding to BF16 leaves.
const unitSlack = 0.05

// farFromUnit returns how far a·bᵀ is from the unit matrix, and in which row.
func farFromUnit(ctx context.Context, a, b []float32, n int) (row int, far float64, err error) {
	for i := range n {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		for j := range n {
			dot := 0.0
			y := b[j*n:][:n]
			for k, x := range a[i*n:][:n] {
				dot += float64(x) * float64(y[k])
			}
			if i == j {
				dot--
			}
			if off := math.Abs(dot); off > far || off != off {
				row, far = i, off
			}
			if far != far {
				return row, far, nil
			}
		}
	}
	return row, far, nil
}

// cacheOffsets: zero points are integers of 8 bits.
func (s *subject) cacheOffsets(ctx context.Context, t safetensors.Info) error {
	var bad tally
	err := s.eachFloat(ctx, t, func(i int64, v float32) {
		if v != float32(math.Trunc(float64(v))) || !(v >= -128 && v <= 127) {
			bad.note(i, v)
		}
	})
	if err == nil && bad.n > 0 {
		s.add("cache-offset", t.Name, "no integer of 8 bits: %s", describe(bad, t))
	}
	return err
}
