package layout

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// Caches are the layers whose caches an Ascend checkpoint asks to be kept in int8
// (C8; docs/facts/ascend.md 2.6).
type Caches struct {
	Indexer []int // index keys and queries, a scale for each token
	Latents []int // key-value latents, a scale for each tile of a token's
	Static  []int // keys and values of grouped-query attention, stored scales and zero points for each channel
}

// Parameters of int8 caches.
const (
	CacheScale    = "kv_cache_scale"
	CacheOffset   = "kv_cache_offset"
	QueryRotation = "q_rot"
	KeyRotation   = "k_rot"
)

// The schemes of caches, as descriptions spell them.
const (
	cacheScheme   = "C8"
	dynamicScheme = "INT8_DYNAMIC"
)

// Empty reports whether no layer has one.
func (c *Caches) Empty() bool {
	return c == nil || len(c.Indexer)+len(c.Latents)+len(c.Static) == 0
}

// Tensors lists what the caches need beside the model's tensors: the matrices that
// index queries and keys are multiplied by [D, D] BF16, and scales and zero
// points of keys and values [KV·D] F32.
func (c *Caches) Tensors(cfg *glm.Config) (out []Weight) {
	if c == nil {
		return nil
	}
	put := func(layer int, module, param string, d safetensors.DType, shape ...int64) {
		module = cfg.LayerPrefix(layer) + "self_attn." + module
		t := glm.Tensor{Name: module + "." + param, Module: module, Param: param, DType: d, Shape: shape, Layer: layer, Expert: -1, MTP: layer >= cfg.Layers}
		out = append(out, Weight{Tensor: &t, Source: d, DType: d})
	}
	for _, l := range c.Indexer {
		n := int64(cfg.IndexHeadDim)
		put(l, "indexer", QueryRotation, safetensors.BF16, n, n)
		put(l, "indexer", KeyRotation, safetensors.BF16, n, n)
	}
	for _, l := range c.Static {
		n := int64(cfg.KVHeads) * int64(cfg.HeadDim)
		for _, module := range []string{"k_proj", "v_proj"} {
			put(l, module, CacheScale, safetensors.F32, n)
			put(l, module, CacheOffset, safetensors.F32, n)
		}
	}
	return out
}

// entries are the keys of a description that say so. Recipes with latents are
// those of GLM-5.2 and later, whose adapter shortens P_INT8_DYNAMIC to the same
// word (docs/facts/ascend.md 5.2).
func (c *Caches) entries(cfg *glm.Config) (list []entry) {
	if c == nil {
		return nil
	}
	dynamic := strconv.Quote(dynamicScheme)
	for _, l := range c.Indexer {
		list = append(list, entry{cfg.LayerPrefix(l) + "self_attn.indexer.quant_type", dynamic})
	}
	for _, l := range c.Latents {
		list = append(list, entry{cfg.LayerPrefix(l) + "self_attn.quant_type", dynamic})
	}
	if len(c.Indexer) > 0 {
		list = append(list, entry{"indexer_quant_type", dynamic})
	}
	if len(c.Static) > 0 {
		list = append(list, entry{"kv_cache_type", strconv.Quote(cacheScheme)}, entry{"kv_quant_type", strconv.Quote(cacheScheme)})
	}
	return list
}

// String names the layers.
func (c *Caches) String() string {
	var parts []string
	for _, x := range []struct {
		what   string
		layers []int
	}{{"index keys", c.Indexer}, {"key-value latents", c.Latents}, {"keys and values", c.Static}} {
		if len(x.layers) > 0 {
			parts = append(parts, fmt.Sprintf("%s of layers %s", x.what, runs(x.layers)))
		}
	}
	return join(parts)
}

// runs writes sorted numbers as 3–69, 71, 75.
func runs(list []int) string {
	var parts []string
	for i := 0; i < len(list); {
		k := i
		for k+1 < len(list) && list[k+1] == list[k]+1 {
			k++
		}
		if k > i {
			parts = append(parts, fmt.Sprintf("%d–%d", list[i], list[k]))
		} else {
			parts = append(parts, strconv.Itoa(list[i]))
		}
		i = k + 1
	}
	return join(parts)
}

// isCache reports whether a tensor is one of those that Caches.Tensors lists with
// scales.
func isCache(w *Weight) bool {
	return slices.Contains([]string{CacheScale, CacheOffset}, w.Tensor.Param)
}
