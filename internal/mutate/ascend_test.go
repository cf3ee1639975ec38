package mutate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// published is how releases for Ascend are made.
type published struct {
	rotated, static, mixed bool // mixed: W8A8_MIX where static
	caches                 bool // in int8
	mtp                    layout.MTPMode
}

func (p *published) String() string {
	var words []string
	for word, is := range map[string]bool{"rotated": p.rotated, "static": p.static && !p.mixed, "W8A8_MIX": p.mixed, "c8": p.caches, "MTP " + string(p.mtp): p.mtp != ""} {
		if is {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// make converts a base; ranges of inputs are made up.
func (p *published) make(t *testing.T, b *base) string {
	t.Helper()
	o := quant.Options{MTP: p.mtp}
	if p.caches {
		o.KV = quant.KVC8
	}
	if p.caches {
		o.CacheRanges = p.cacheRanges(t, b)
	}
	if p.static {
		c, err := safetensors.OpenDir(b.src)
		require.NoError(t, err)
		o.Ranges = map[string]quant.Range{}
		for i, x := range c.Tensors() {
			if module, ok := strings.CutSuffix(x.Name, ".weight"); ok && strings.Contains(module, "self_attn.") {
				o.Ranges[module] = quant.Range{Lo: -4 - float32(i%3), Hi: 5}
			}
		}
		require.NoError(t, c.Close())
	}
	dst := filepath.Join(t.TempDir(), "result")
	if !p.rotated {
		return resultOf(t, b.src, b.scheme, b.format, o)
	}
	r, err := quant.OpenRotated(t.Context(), b.src, b.scheme, b.format, o, 0)
	require.NoError(t, err)
	_, err = convert.Run(t.Context(), r.Plan, r.Checkpoint, dst, convert.Options{Workers: 2, Version: "test"})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	if p.mixed {
		hit, err := Mixed(dst)
		require.NoError(t, err)
		require.True(t, hit)
	}
	return dst
}

// cacheRanges are made-up ranges of keys and values, which grouped-query
// attention needs.
func (p *published) cacheRanges(t *testing.T, b *base) map[string][]quant.Range {
	t.Helper()
	c, err := safetensors.OpenDir(b.src)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	out := map[string][]quant.Range{}
	for _, x := range c.Tensors() {
		module, ok := strings.CutSuffix(x.Name, ".weight")
		if !ok || !strings.HasSuffix(module, ".k_proj") && !strings.HasSuffix(module, ".v_proj") {
			continue
		}
		for i := range x.Shape[0] {
			out[module] = append(out[module], quant.Range{Lo: -3 - float32(i%5), Hi: 4})
		}
	}
	return out
}

// releases are the published kinds of two models.
func releases() (list []*base) {
	for _, model := range []string{"nano-glm5", "nano-glm52"} {
		for _, x := range []struct {
			scheme layout.Scheme
			as     published
		}{
			{layout.W8A8, published{rotated: true}},
			{layout.W8A8, published{rotated: true, static: true, mtp: layout.MTPQuantize}},
			{layout.W8A8, published{rotated: true, static: true, caches: true}},
			{layout.W8A8, published{rotated: true, static: true, mixed: true}},
			{layout.W4A8, published{rotated: true}},
			{layout.W4A8, published{rotated: true, static: true}},
		} {
			list = append(list, &base{model: model, scheme: x.scheme, format: layout.Ascend, as: &x.as})
		}
	}
	return append(list,
		&base{model: "nano-glm4moe", scheme: layout.W8A8, format: layout.Ascend, as: &published{caches: true, static: true}},
		&base{model: "nano-glm4moe", scheme: layout.W8A8, format: layout.Ascend, as: &published{rotated: true, mtp: layout.MTPDrop}})
}

// TestSuiteOfAscend: every fault of rotated folders, static weights, int8 caches
// and their codes gets a negative verdict and is named, whatever became of the
// manifest; the folders as they are get none.
func TestSuiteOfAscend(t *testing.T) {
	on := chosen(releases())
	if os.Getenv("GLMCONV_TORTURE") == "" { // half of them, every kind once
		on = slices.DeleteFunc(on, func(b *base) bool {
			return (b.model == "nano-glm5") != (b.as.mixed || b.scheme == layout.W4A8) && b.model != "nano-glm4moe"
		})
	}
	for i, b := range on {
		require.True(t, b.make(t))
		for k, m := range manifests[1:] {
			if os.Getenv("GLMCONV_TORTURE") == "" && k != i%2 || m == "removed" && b.as.mtp == layout.MTPDrop {
				continue // nothing but the manifest says that a layer was left out
			}
			dir := b.damaged(t, Fault{Apply: func(Made) (bool, error) { return true, nil }}, m)
			o := judge(t, b.src, dir, true)
			assert.False(t, o.negative, "%s, %s: %s", b, m, o.failed)
			require.NoError(t, os.RemoveAll(filepath.Dir(dir)))
		}
	}
	list := OfAscend()
	for i := range list {
		list[i].Says = append(list[i].Says, "bytes changed after the conversion") // by a manifest that was kept
	}
	seeFaults(t, on, list, 1)
}
