package check

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/safetensors"
)

// cacheScale are the names under which scales of the key-value cache lie:
// those that vLLM maps (model_loader/weight_utils.py maybe_remap_kv_scale_name
// of 0.32.0), and msmodelslim's.
var cacheScale = lazy.Regexp(`\.layers\.(\d+)\.self_attn\.(?:(?:attn|mla_attn|k_proj|v_proj|q_proj|qkv_proj|qqkkv_proj)\.)?` +
	`(?:[kvq]_scale|[kvq]_zero_point|kv_scale|prob_scale|(?:k_proj|v_proj)_output_scale|output_scale|kv_cache_scale|kv_cache_offset)$`)

// isCacheScale tells whether a tensor belongs to the key-value cache.
func isCacheScale(name string) bool { return cacheScale().MatchString(name) }

// cacheScales returns the scales of the key-value cache in the order of their
// names.
func (s *subject) cacheScales() []safetensors.Info {
	var list []safetensors.Info
	if s.ckpt == nil {
		return nil
	}
	for _, t := range s.ckpt.Tensors() {
		if isCacheScale(t.Name) {
			list = append(list, t)
		}
	}
	return list
}

// checkCache compares the declared key-value cache with the scales that are
// stored. Engines that miss a scale take 1.0, with a warning or without.
func (s *subject) checkCache() {
	cache := s.declaredCache()
	if s.model == nil {
		return
	}
	scales := s.cacheScales()
	switch {
	case cache == nil && len(scales) > 0 && !s.ascend:
		s.add("kv-scale-undeclared", scales[0].Name, "%d scales of the key-value cache are stored, and no kv_cache_scheme says of what form it is: engines use them only when they are told to", len(scales))
		return
	case cache == nil || !cache.Scales():
		return
	case len(scales) == 0:
		s.add("kv-scale-missing", cache.Path, "%s promises static scales (%s) for the key-value cache and the files hold no k_scale or v_scale: engines take 1.0", cache.Named, cache.Form)
		return
	}
	layers, halves := map[string]bool{}, map[string]bool{}
	for _, t := range scales {
		n := cacheScale().FindStringSubmatch(t.Name)[1]
		layers[n] = true
		if half := halfOf(t.Name); half != "" {
			halves[n+half] = true
		}
	}
	for l := range s.cfg.Layers {
		n := fmt.Sprint(l)
		k, v := halves[n+"k"], halves[n+"v"]
		switch {
		case !layers[n]:
			s.add("kv-scale-missing", fmt.Sprintf("layer %d", l), "the other layers have scales of the key-value cache; engines take 1.0 here")
		case k && !v:
			s.add("kv-scale-missing", fmt.Sprintf("layer %d", l), "it has a k_scale and no v_scale: engines take the one for both, or 1.0 for values")
		case v && !k:
			s.add("kv-scale-missing", fmt.Sprintf("layer %d", l), "it has a v_scale and no k_scale: engines take the one for both, or 1.0 for keys")
		}
	}
}

// halfOf tells whether a scale is of keys ("k") or of values ("v") only.
func halfOf(name string) string {
	for _, half := range []string{"k", "v"} {
		for _, end := range []string{half + "_scale", half + "_proj_output_scale", half + "_proj.output_scale"} {
			if strings.HasSuffix(name, "."+end) {
				return half
			}
		}
	}
	return ""
}

func (s *subject) declaredCache() *declaration.Cache {
	if s.decl == nil || s.decl.Declaration == nil {
		return nil
	}
	return s.decl.Cache
}

// offsets of the cache may be negative or zero.
var cacheOffset = lazy.Regexp(`(?:zero_point|offset)$`)

// Limits of scales that activations are divided by. The largest magnitude is
// 127 or 448 times its scale, of 4 bits 2688 times. Beyond the limits either all
// values of a model are rounded to zero or all are cut off to one magnitude, and
// a subnormal scale is 0 to kernels. Keys and values are never small; the input
// of an expert that nothing was routed to is, and so are the scales of scales.
const (
	leastCacheScale = 1e-7
	leastScale      = 1e-12
	mostScale       = 1e4
)

// absurd is the code of a scale that no values lead to, "" for a sound one.
func absurd(v, least float32) string {
	switch {
	case v != v || math.IsInf(float64(v), 0):
		return "scale-nonfinite"
	case v == 0:
		return "scale-zero"
	case v < 0:
		return "scale-negative"
	case v < least || v > mostScale:
		return "scale-absurd"
	}
	return ""
}

// cacheJobs read the scales of the key-value cache: one that no activations
// lead to makes every answer noise.
func (s *subject) cacheJobs() (jobs []job) {
	for _, t := range s.cacheScales() {
		switch {
		case cacheOffset().MatchString(t.Name):
		case isFloat(t.DType):
			jobs = append(jobs, job{t.Size, func(ctx context.Context) ([]Finding, error) {
				return s.absurdScales(ctx, t, "the key-value cache", leastCacheScale, false)
			}})
		default:
			s.add("companion-dtype", t.Name, "a scale of the key-value cache is %s, not a floating-point number", t.DType)
		}
	}
	return jobs
}

// absurdScales names the first value of a scale that no values lead to. Divisor is true for scales that are stored as 2688 over a magnitude.
func (s *subject) absurdScales(ctx context.Context, t safetensors.Info, of string, least float32, divisor bool) (bad []Finding, err error) {
	err = s.eachFloat(ctx, t, func(i int64, v float32) {
		x := v
		if divisor && v != 0 {
			x = 1 / v
		}
		if code := absurd(x, least); code != "" && len(bad) == 0 {
			bad = append(bad, found(code, t.Name, fmt.Sprintf("value %d of a scale of %s is %v", i, of, v)))
		}
	})
	return bad, err
}
