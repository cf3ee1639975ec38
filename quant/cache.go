package quant

import (
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/quant/rotation"
)

// KVMode says how an engine is to keep its caches.
type KVMode string

// The modes.
const (
	KVSame KVMode = ""   // as it likes
	KVC8   KVMode = "c8" // in int8 (Ascend C8; docs/facts/ascend.md 2.6)
)

// addCaches decides which layers' caches are to be in int8 and makes the tensors
// for them.
func (p *Plan) addCaches() error {
	switch p.Options.KV {
	case KVSame:
		return nil
	case KVC8:
	default:
		return fail(ErrImpossible, "", "there is no cache of the kind %q: c8", p.Options.KV)
	}
	cfg := p.Config
	if p.Format != layout.Ascend {
		return &layout.ImpossibleError{What: "an int8 cache (c8) in " + string(p.Format), Rule: "engines are told of it in Ascend checkpoints only", Nearest: "--format ascend with w8a8 or w4a8"}
	}
	if cfg.LatentAttention() && !cfg.SparseAttention() {
		return &layout.ImpossibleError{What: "an int8 cache (c8) of " + string(cfg.Family), Rule: "published are those of index keys and latents of sparse attention and of keys and values of grouped-query attention",
			Nearest: "without it"}
	}
	if p.caches = p.Options.Caches; p.caches == nil {
		p.caches = defaultCaches(cfg)
	}
	p.caches = p.present(p.caches)
	if p.caches.Empty() {
		p.Notes = append(p.Notes, "int8 caches: no layer is left for them at this depth")
		return nil
	}
	p.Notes = append(p.Notes, "int8 caches: "+p.caches.String())
	for _, w := range p.caches.Tensors(cfg) {
		data, err := p.cacheData(&w)
		if err != nil {
			return err
		}
		p.Items = append(p.Items, Item{Weight: w, Action: Make, Scheme: w.DType.String(), Reason: "int8 cache", Data: data})
	}
	return nil
}

// present leaves out layers that have no indexer of their own or are not written.
func (p *Plan) present(c *layout.Caches) *layout.Caches {
	indexers, layers := map[int]bool{}, map[int]bool{}
	for i := range p.Items {
		it := &p.Items[i]
		if it.Action == Drop {
			continue
		}
		layers[it.Weight.Tensor.Layer] = true
		if it.Weight.Tensor.Role == glm.IndexerK {
			indexers[it.Weight.Tensor.Layer] = true
		}
	}
	keep := func(list []int, in map[int]bool) []int {
		return slices.DeleteFunc(slices.Clone(list), func(l int) bool { return !in[l] })
	}
	return &layout.Caches{Indexer: keep(c.Indexer, indexers), Latents: keep(c.Latents, layers), Static: keep(c.Static, layers)}
}

// cacheData are the bytes of a tensor of a cache.
func (p *Plan) cacheData(w *layout.Weight) ([]byte, error) {
	switch w.Tensor.Param {
	case layout.QueryRotation, layout.KeyRotation:
		h, err := rotation.NewHadamard(p.Config.IndexHeadDim, cacheSeed)
		if err != nil {
			return nil, err
		}
		x := make([]float32, p.Config.IndexHeadDim*p.Config.IndexHeadDim)
		rotation.Rows(h, 0, p.Config.IndexHeadDim, x)
		return numeric.AppendBF16(nil, x), nil
	}
	ranges := p.Options.CacheRanges[w.Tensor.Module]
	if int64(len(ranges)) != w.Tensor.Shape[0] {
		return nil, &layout.ImpossibleError{What: "an int8 cache (c8) of " + string(p.Config.Family), Rule: "its scales are made of the ranges that keys and values take on text",
			Nearest: "statistics: glmconv calibrate --text FILE SRC STATS, then --calib STATS"}
	}
	var b []byte
	for _, r := range ranges {
		scale, offset, err := channelInt8(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.Tensor.Name, err)
		}
		if w.Tensor.Param == layout.CacheScale {
			b = numeric.AppendF32(b, []float32{scale})
		} else {
			b = numeric.AppendF32(b, []float32{offset})
		}
	}
	return b, nil
}

// cacheSeed is that of the signs of index queries and keys.
const cacheSeed = 1234

// channelInt8 is the scale and zero point of a channel: (hi − lo)/255 and
// rne(−lo/scale) − 128 (docs/facts/ascend.md 2.1).
func channelInt8(r Range) (scale, offset float32, err error) {
	in, err := layout.NewExactInput(r.Lo, r.Hi)
	return in.Scale, float32(in.Offset), err
}
