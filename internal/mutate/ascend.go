package mutate

import (
	"math"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// OfAscend lists the faults of rotated folders, static weights, int8 caches and
// codes as msmodelslim and vllm-ascend have them (docs/facts/ascend.md 2.4, 2.6,
// 5.4). Engines load nearly all of them without a word.
func OfAscend() []Fault {
	var out []Fault
	for _, group := range []struct {
		name string
		list []Fault
	}{{"rotation", ofRotation()}, {"basis", ofBasis()}, {"static", ofStatic()}, {"static scales", ofStaticScales()}, {"caches", ofCaches()}, {"codes", ofCodes()}} {
		for _, f := range group.list {
			f.Group = group.name
			out = append(out, f)
		}
	}
	return out
}

const (
	rotName    = layout.DraftRotation
	rotFlag    = "is_rot_used"
	attention1 = body + `1\.self_attn\.`
)

// first changes the first tensor that matches.
func first(pattern string, fn func(t *Tensor) bool) func(Set) bool {
	return func(s Set) bool {
		n := s.find(pattern)
		return n != "" && fn(s[n])
	}
}

// element changes one value of the first tensor that matches.
func element(pattern string, at int, fn func(v float64) float64) func(Set) bool {
	return first(pattern, func(t *Tensor) bool {
		i := -1
		return t.each(func(v float64) float64 {
			if i++; i == at {
				return fn(v)
			}
			return v
		})
	})
}

// all changes every value of the first tensor that matches.
func all(pattern string, fn func(v float64) float64) func(Set) bool {
	return first(pattern, func(t *Tensor) bool { return t.each(fn) })
}

// both applies two changes; it applies where the first does.
func both(a, b func(Made) (bool, error)) func(Made) (bool, error) {
	return func(m Made) (bool, error) {
		ok, err := a(m)
		if !ok || err != nil {
			return ok, err
		}
		_, err = b(m)
		return true, err
	}
}

// ofRotation are faults of what goes with a rotation: rot.weight and its flag.
func ofRotation() []Fault {
	unflagged := jsonFile(descriptionName, lose(rotFlag))
	drop := onSet(dropAll(`^rot\.weight$`))
	matrix := func(fn func(t *Tensor, h int) bool) func(Made) (bool, error) {
		return onSet(first(`^rot\.weight$`, func(t *Tensor) bool { return fn(t, int(t.Shape[0])) }))
	}
	at := func(t *Tensor, i int) []byte { return t.Data[i*t.DType.Bits()/8:][:t.DType.Bits()/8] }
	says := []string{rotName, "rot: copied"}
	return []Fault{
		{Name: "rot.weight lost", Apply: drop, Says: says},
		{Name: "rot.weight and the flag lost", Apply: both(drop, unflagged), Says: says, Notes: true},
		{Name: "the flag lost", Apply: unflagged, Says: []string{rotFlag}},
		{Name: "the flag false", Apply: jsonFile(descriptionName, func(m map[string]any) bool {
			was, ok := m[rotFlag]
			m[rotFlag] = false
			return ok && was == true
		}), Says: []string{rotFlag}},
		{Name: "rot.weight of zeros", Apply: matrix(func(t *Tensor, _ int) bool { clear(t.Data); return true }), Says: says},
		{Name: "a row of rot.weight zero", Apply: matrix(func(t *Tensor, h int) bool { clear(t.Data[:len(t.Data)/h]); return true }), Says: says},
		{Name: "a row of rot.weight too few", Apply: matrix(func(t *Tensor, h int) bool {
			t.Data, t.Shape[0] = t.Data[:len(t.Data)/h*(h-1)], int64(h-1)
			return true
		}), Says: says},
		{Name: "rot.weight of another width", Apply: matrix(func(t *Tensor, h int) bool {
			n := h / 2
			data := make([]byte, 0, n*n*t.DType.Bits()/8)
			for i := range n * n {
				data = append(data, at(t, i/n*h+i%n)...)
			}
			t.Data, t.Shape[0], t.Shape[1] = data, int64(n), int64(n)
			return true
		}), Says: says},
		{Name: "rows of rot.weight moved by one", Apply: matrix(func(t *Tensor, h int) bool {
			row := len(t.Data) / h
			t.Data = append(slices.Clone(t.Data[row:]), t.Data[:row]...)
			return true
		}), Says: says},
		{Name: "a NaN in rot.weight", Apply: onSet(element(`^rot\.weight$`, 5, func(float64) float64 { return math.NaN() })), Says: says},
		{Name: "rot.weight is the unit matrix", Apply: matrix(func(t *Tensor, h int) bool {
			i := -1
			return t.each(func(float64) float64 {
				i++
				if i/h == i%h {
					return 1
				}
				return 0
			})
		}), Says: says},
		{Name: "rot.weight doubled", Apply: onSet(all(`^rot\.weight$`, func(v float64) float64 { return 2 * v })), Says: says},
		{Name: "rot.weight of another rotation", Apply: matrix(func(t *Tensor, h int) bool {
			old := slices.Clone(t.Data)
			w := t.DType.Bits() / 8
			for i := range h * h { // rows and columns moved alike: symmetric still
				copy(t.Data[i*w:(i+1)*w], old[((i/h+1)%h*h+(i+1)%h)*w:])
			}
			return !slices.Equal(old, t.Data)
		}), Says: says},
		{Name: "the flag in a family without", Apply: func(m Made) (bool, error) {
			cfg, err := glm.LoadConfig(m.Dir)
			if err != nil || cfg.SparseAttention() {
				return false, err
			}
			return EditJSON(m.Dir, descriptionName, set(true, rotFlag))
		}, Says: []string{rotFlag}},
		{Name: "the matrix beside the result lost", Apply: without(layout.RotationFile), Says: []string{layout.RotationFile}, Notes: true},
		{Name: "the matrix beside the result of zeros", Apply: rotationFile(func(t *Tensor) bool { clear(t.Data); return true }),
			Says: []string{layout.RotationFile}, Notes: true},
		{Name: "the matrix beside the result transposed", Apply: rotationFile(func(t *Tensor) bool {
			h, old := int(t.Shape[0]), slices.Clone(t.Data)
			for i := range h * h {
				copy(t.Data[4*i:4*i+4], old[4*(i%h*h+i/h):])
			}
			return !slices.Equal(old, t.Data)
		}), Says: []string{layout.RotationFile}, Notes: true},
	}
}

// rotationFile changes the matrix that lies in optional/.
func rotationFile(fn func(t *Tensor) bool) func(Made) (bool, error) {
	return func(m Made) (bool, error) {
		path := filepath.Join(m.Dir, filepath.FromSlash(layout.RotationFile))
		f, err := safetensors.OpenFile(path)
		if err != nil {
			return false, nil //nolint:nilerr // it is not there: the fault does not apply
		}
		info, ok := f.Tensor(layout.GlobalRotation)
		t := &Tensor{safetensors.Spec{Name: info.Name, DType: info.DType, Shape: slices.Clone(info.Shape)}, "", make([]byte, info.Size)}
		err = f.ReadTensor(info, 0, t.Data)
		_ = f.Close()
		if !ok || err != nil || !fn(t) {
			return false, err
		}
		dir, name := filepath.Split(path)
		if err := writeShard(dir, name, []*Tensor{t}); err != nil {
			return false, err
		}
		return true, forge(m.Dir)
	}
}

// ofBasis are weights of the source in a rotated result.
func ofBasis() []Fault {
	from := func(name, pattern string, says ...string) Fault {
		return Fault{Name: name, Apply: ofSource(pattern, pattern), Says: says}
	}
	mtp := func(pattern string) func(Made) (bool, error) {
		return func(m Made) (bool, error) {
			cfg, err := glm.LoadConfig(m.Dir)
			if err != nil {
				return false, err
			}
			p := regexp.QuoteMeta(cfg.LayerPrefix(cfg.Layers)) + pattern
			return ofSource(p, p)(m)
		}
	}
	return []Fault{
		{Name: "the MTP layer of the source", Apply: mtp(`.*`), Says: []string{"MTP layer", "layers.3"}},
		{Name: "norms of the source's MTP layer", Apply: mtp(`.*norm\.weight$`), Says: []string{"layernorm", "MTP layer"}},
		{Name: "eh_proj of the source", Apply: mtp(`eh_proj\.weight$`), Says: []string{"eh_proj"}},
		{Name: "the draft's embedding is the source's", Apply: ofSource(`^model\.embed_tokens\.weight$`, body+`\d+\.embed_tokens\.weight$`), Says: []string{"embed_tokens"}},
		{Name: "the draft's head is the source's", Apply: ofSource(`^lm_head\.weight$`, `shared_head\.head\.weight$`), Says: []string{"shared_head.head"}},
		from("embedding of the source", `^model\.embed_tokens\.weight$`, "embed_tokens"),
		from("head of the source", `^lm_head\.weight$`, "lm_head"),
		from("a router of the source", body+`1\.mlp\.gate\.weight$`, "mlp.gate"),
		from("kv_b_proj of the source", attention1+`kv_b_proj\.weight$`, "kv_b_proj"),
		from("indexer keys of the source", attention1+`indexer\.wk\.weight$`, "indexer.wk"),
		from("indexer weights of the source", attention1+`indexer\.weights_proj\.weight$`, "weights_proj"),
		from("a norm of the source", body+`1\.input_layernorm\.weight$`, "input_layernorm", "norms of its trunk"),
		from("the final norm of the source", `^model\.norm\.weight$`, "model.norm", "norms of its trunk"),
	}
}

// ofSource puts the source's tensors that match in the place of those of the
// result that match; one of the source may stand for several.
func ofSource(from, to string) func(Made) (bool, error) {
	return func(m Made) (bool, error) {
		theirs := Set{}
		if _, err := Edit(m.Source, func(s Set) (bool, error) {
			for _, n := range s.Names(regexp.MustCompile(from).MatchString) {
				theirs[n] = s[n]
			}
			return false, nil
		}); err != nil {
			return false, err
		}
		re := regexp.MustCompile(to)
		return Edit(m.Dir, func(s Set) (bool, error) {
			hit := false
			for _, n := range s.Names(re.MatchString) {
				x := theirs[n]
				if x == nil && from != to {
					x = theirs[theirs.find(from)]
				}
				if t := s[n]; x != nil && t.DType == x.DType && slices.Equal(t.Shape, x.Shape) && !slices.Equal(t.Data, x.Data) {
					t.Data, hit = slices.Clone(x.Data), true
				}
			}
			return hit, nil
		})
	}
}
