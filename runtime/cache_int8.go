package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/jsonwalk"
	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Caches in int8, as Ascend checkpoints ask for them (docs/facts/ascend.md 2.6,
// 5.2). What a cache would hold is rounded before attention reads it:
//
//   - keys and values of grouped-query attention by a stored scale and zero
//     point for each channel (k_proj.kv_cache_scale, kv_cache_offset, v_proj);
//   - index keys and queries by token, after a product with indexer.k_rot and
//     q_rot; scales are F16;
//   - latents in tiles of 128 values of a token, in the layers that the
//     description names; scales are F32.

// int8Cache are the tensors of a layer's int8 cache; nil where it has none.
type int8Cache struct {
	scale, offset [2]*glm.Tensor // of keys, of values
	qRot, kRot    *glm.Tensor    // of the indexer
}

var cacheName = lazy.Regexp(`^(.*\.)?layers\.(\d+)\.self_attn\.(k_proj|v_proj|indexer)\.(kv_cache_scale|kv_cache_offset|q_rot|k_rot)$`)

// addCaches makes the tensors of int8 caches known to the loader.
func (l *loader) addCaches() error {
	for _, info := range l.src.Tensors() {
		p := cacheName().FindStringSubmatch(info.Name)
		if p == nil {
			continue
		}
		want := []int64{int64(l.cfg.KVHeads * l.cfg.HeadDim)}
		if p[3] == "indexer" {
			want = []int64{int64(l.cfg.IndexHeadDim), int64(l.cfg.IndexHeadDim)}
		}
		if !slices.Equal(info.Shape, want) && !(len(want) == 1 && info.Elements() == want[0]) || !isFloat(info.DType) {
			return &Error{Where: info.Name, Reason: fmt.Sprintf("is %s %v; an int8 cache needs a floating-point %v", info.DType, info.Shape, want), Kind: ErrIncomplete}
		}
		l.entries[info.Name] = &glm.Entry{Tensor: cacheRow(info.Name, want), Source: info, Size: info.Size}
	}
	return nil
}

func cacheRow(name string, shape []int64) *glm.Tensor {
	module, param := glm.ModuleOf(name)
	return &glm.Tensor{Name: name, Module: module, Param: param, DType: safetensors.F32, Shape: shape, Layer: -1, Expert: -1}
}

// newInt8Cache looks for the tensors of a layer's cache beside those of its
// attention.
func newInt8Cache(p Provider, l *refs) *int8Cache {
	c, found := &int8Cache{}, false
	find := func(t *glm.Tensor, param string, shape ...int64) *glm.Tensor {
		if t == nil {
			return nil
		}
		row := cacheRow(t.Module+"."+param, shape)
		if !p.Has(row) {
			return nil
		}
		found = true
		return row
	}
	for i, t := range []*glm.Tensor{l.k, l.v} {
		if t != nil {
			c.scale[i], c.offset[i] = find(t, "kv_cache_scale", t.Shape[0]), find(t, "kv_cache_offset", t.Shape[0])
		}
	}
	if l.ixK != nil {
		d := l.ixK.Shape[0]
		indexer := *l.ixK
		indexer.Module = strings.TrimSuffix(indexer.Module, ".wk")
		c.qRot, c.kRot = find(&indexer, "q_rot", d, d), find(&indexer, "k_rot", d, d)
	}
	if !found {
		return nil
	}
	return c
}

// keysValues rounds rows of keys and values [R, w] as the cache holds them.
func (c *int8Cache) keysValues(p Provider, k, v []float32) error {
	if c == nil {
		return nil
	}
	for i, x := range [][]float32{k, v} {
		if c.scale[i] == nil {
			continue
		}
		scale, err := p.Vector(c.scale[i])
		if err != nil {
			return err
		}
		offset := make([]float32, len(scale))
		if c.offset[i] != nil {
			if offset, err = p.Vector(c.offset[i]); err != nil {
				return err
			}
		}
		for j, f := range x {
			n := j % len(scale)
			q := min(max(math.RoundToEven(float64(f/scale[n]+offset[n])), -128), 127)
			x[j] = (float32(q) - offset[n]) * scale[n]
		}
	}
	return nil
}

// turnInt8 multiplies rows [R, d] by a matrix, y = x·R, and rounds each to int8.
func turnInt8(p Provider, rows []float32, rot *glm.Tensor) error {
	if rot == nil {
		return nil
	}
	d := int(rot.Shape[0])
	m := make([]float32, d*d)
	if err := p.Gather(m, rot, allRows(d)); err != nil {
		return err
	}
	y := make([]float32, d)
	for at := 0; at < len(rows); at += d {
		row := rows[at:][:d]
		clear(y)
		for i, x := range row {
			for j := range y {
				y[j] += float32(x * m[i*d+j])
			}
		}
		copy(row, y)
		roundInt8(row)
	}
	return nil
}

func allRows(n int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// roundInt8 rounds a row to int8 with absmax/127 as its scale, kept as F16.
func roundInt8(x []float32) {
	s := numeric.AbsMax(x) / 127
	if s == 0 {
		return
	}
	kept := numeric.F16ToF32(numeric.F32ToF16(s))
	for i, f := range x {
		x[i] = float32(min(max(math.RoundToEven(float64(f/s)), -128), 127)) * kept
	}
}

// latentTile is how many values of a latent share a scale (msmodelslim
// model/glm_5_2/model_adapter.py: _fake_quant_per_tile).
const latentTile = 128

// roundTile rounds values to int8 with absmax/127 as their scale.
func roundTile(x []float32) {
	s := max(numeric.AbsMax(x), 1e-12) / 127
	for i, f := range x {
		x[i] = float32(min(max(math.RoundToEven(float64(f/s)), -127), 127)) * s
	}
}

// Caches tells which layers keep their latents in int8.
type Caches map[int]bool

var latentName = lazy.Regexp(`(?:^|\.)layers\.(\d+)\.self_attn\.quant_type$`)

// ReadCaches reads what the description of an Ascend checkpoint says of the
// caches of its layers; nil without one.
func ReadCaches(dir string) (Caches, error) {
	raw, err := fsx.ReadIn(dir, declaration.DescriptionName, fsx.MaxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out Caches
	walk := jsonwalk.New(raw)
	if _, ok := walk.Open(); !ok {
		return nil, unsupported(declaration.DescriptionName, "is not a JSON object")
	}
	for walk.More() {
		key, _ := walk.Key()
		value, _ := jsonwalk.Unquote(walk.Value().Of(raw))
		if p := latentName().FindStringSubmatch(key); p != nil && strings.Contains(value, "INT8") {
			if out == nil {
				out = Caches{}
			}
			n, _ := strconv.Atoi(p[1])
			out[n] = true
		}
	}
	return out, nil
}
