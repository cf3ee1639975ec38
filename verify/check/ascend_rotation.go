package check

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// rotName is the tensor by which vllm-ascend turns the hidden state of a
// rotated model (QuaRot) before its draft reads it: Qᵀ·diag(g)·Q, where g is
// the gain of the final norm and Q the rotation.
const rotName = "rot.weight"

// rotatedHint: smoothing after the rotation leaves other gains as well.
const rotatedHint = "glmconv verify SRC DIR compares every layer with its source; a tool that smooths after it rotates leaves such gains too"

// rotation is what speaks for a rotated model: norms that were folded into the
// weights behind them are exactly 1.
type rotation struct {
	flag, matrix, recipe bool // is_rot_used, rot.weight, optional.quarot
	trunk, draft         bool // norms of 1 throughout, of the trunk in most layers where the folder says that it is rotated
	odd                  []string
	layers, draftNorms   int
}

// checkRotation judges rotated Ascend folders, whose faults all load without a
// word (docs/facts/ascend.md), and the companions of static weights that
// belong together.
func (s *subject) checkRotation(ctx context.Context, meter *meter) error {
	if !s.ascend || s.model == nil {
		return nil
	}
	if err := s.checkShared(ctx); err != nil {
		return err
	}
	r, err := s.rotation(ctx)
	if err != nil {
		return err
	}
	t, stored := s.tensors[rotName]
	drafts := r.draftNorms > 0
	switch {
	case !s.cfg.SparseAttention() && (stored || r.flag):
		s.add("rot-family", rotName, "only the draft of %s has this parameter, %s has none; is_rot_used and rot.weight end its load with KeyError",
			glm.GlmMoeDsa, s.cfg.Family)
	case r.flag && !stored:
		s.add("rot-missing", rotName, "the description says is_rot_used")
	case stored && !r.flag && drafts:
		s.add("rot-unflagged", s.description+": is_rot_used", "it is not true and rot.weight is there: vllm-ascend's draft ends with KeyError: 'rot.weight'")
	case stored && !r.flag:
		s.add("rot-unflagged", s.description+": is_rot_used", "it is not true and rot.weight is there; without an MTP layer nobody asks for it").as(Warning)
	}
	rotated := r.trunk || r.recipe || r.flag
	s.report.Rotated = rotated
	if rotated { // gains of 1 are what a rotation leaves
		s.report.Findings = slices.DeleteFunc(s.report.Findings, func(f Finding) bool {
			return f.Code == "norm-constant" && strings.Contains(f.Detail, "values are 1,")
		})
	}
	switch {
	case !r.trunk && (r.flag || r.recipe) && s.cfg.SparseAttention():
		s.add("rotation-mixed", s.description,
			"it says that the model is rotated, and the norms of its trunk are not 1 throughout: a rotation folds them into the weights").as(Warning).hint(rotatedHint)
	case drafts && r.trunk != r.draft:
		which := map[bool]string{true: "rotated", false: "not rotated"}
		s.add("rotation-mixed", s.cfg.LayerPrefix(s.cfg.Layers)+"*",
			"the trunk is %s and the MTP layer is %s, by their norms (1 throughout where they were folded into rotated weights)", which[r.trunk], which[r.draft])
	case drafts && rotated && !stored && !r.flag && s.cfg.SparseAttention():
		s.add("rot-missing", rotName,
			"the model is rotated, it has an MTP layer and neither rot.weight nor is_rot_used: drafts lack the gains of the final norm").as(Warning)
	}
	if r.trunk {
		for _, where := range r.odd {
			s.add("rotation-mixed", where, "it is not rotated, by its norms, and %d of %d others are (layers and the final norm: 1 throughout where they were folded into rotated weights)", r.layers-len(r.odd), r.layers-1).
				as(Warning).hint(rotatedHint)
		}
	}
	if stored {
		meter.expect(t.Size)
		defer meter.add(t.Size)
		return s.rotMatrix(ctx, t)
	}
	return nil
}

// rotation collects the evidence.
func (s *subject) rotation(ctx context.Context) (r rotation, err error) {
	r.flag = truthy(s.desc["is_rot_used"])
	r.recipe = strings.Contains(string(s.desc["optional"]), `"quarot"`)
	_, r.matrix = s.tensors[rotName]
	ones := map[string]bool{} // by layer
	r.draft = true
	for _, row := range s.rows {
		t, ok := s.tensors[row.Name]
		if !ok || !folded(row) || !isFloat(t.DType) {
			continue
		}
		one := true
		if err := s.eachFloat(ctx, t, func(_ int64, v float32) { one = one && v == 1 }); err != nil {
			return r, err
		}
		if row.MTP {
			r.draftNorms++
			r.draft = r.draft && one
			continue
		}
		layer := row.Name
		if row.Layer >= 0 {
			layer = s.cfg.LayerPrefix(row.Layer) + "*"
		}
		before, seen := ones[layer]
		ones[layer] = one && (before || !seen)
	}
	for layer, one := range ones {
		if !one {
			r.odd = append(r.odd, layer)
		}
	}
	slices.Sort(r.odd)
	r.layers = len(ones)
	r.trunk = r.layers > 0 && len(r.odd) == 0
	if (r.flag || r.recipe || r.matrix) && r.layers > 0 {
		r.trunk = 2*len(r.odd) < r.layers
	}
	r.draft = r.draft && r.draftNorms > 0
	return r, nil
}

// truthy tells whether Python takes a JSON value for true: the engine asks no more.
func truthy(raw json.RawMessage) bool {
	var v any
	_ = json.Unmarshal(raw, &v)
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

// folded tells which norms a rotation folds into the weights behind them.
func folded(row glm.Tensor) bool {
	if row.Param != "weight" {
		return false
	}
	for _, end := range []string{"input_layernorm", "post_attention_layernorm", "q_a_layernorm", "kv_a_layernorm"} {
		if strings.HasSuffix(row.Module, "."+end) {
			return true
		}
	}
	return row.Name == "model.norm.weight"
}

// rotMatrix: a symmetric matrix of the hidden size, of numbers, none of whose
// rows is zero.
func (s *subject) rotMatrix(ctx context.Context, t safetensors.Info) error {
	h := int64(s.cfg.HiddenSize)
	if len(t.Shape) != 2 || t.Shape[0] != h || t.Shape[1] != h {
		s.add("rot-wrong", rotName, "it is %v, the model is %d wide: [%d %d] is needed", t.Shape, h, h, h)
		return nil
	}
	if !isFloat(t.DType) {
		s.add("rot-wrong", rotName, "it is %s; BF16 or F32 is needed", t.DType)
		return nil
	}
	var bad tally
	largest := make([]float32, h)
	n := min(h, 256) // of the leading block, compared with its transpose
	block := make([]float32, n*n)
	err := s.eachFloat(ctx, t, func(i int64, v float32) {
		if v != v || math.IsInf(float64(v), 0) {
			bad.note(i, v)
		}
		largest[i/h] = max(largest[i/h], v, -v)
		if row, col := i/h, i%h; row < n && col < n {
			block[row*n+col] = v
		}
	})
	if err != nil {
		return err
	}
	zero := 0
	for _, v := range largest {
		if v == 0 {
			zero++
		}
	}
	switch {
	case bad.n > 0:
		s.add("rot-wrong", rotName, "NaN or infinite: %s", describe(bad, t))
	case zero > 0:
		s.add("rot-wrong", rotName, "%d of its %d rows are zero: hidden states are multiplied by nothing", zero, h)
	case !symmetric(block, n, slices.Max(largest)):
		s.add("rot-wrong", rotName, "it is not symmetric, as Qᵀ·diag(g)·Q is")
	}
	return nil
}

// symmetric allows for the rounding of BF16 and of a product in float32.
func symmetric(block []float32, n int64, largest float32) bool {
	for i := range n {
		for j := range i {
			if d := block[i*n+j] - block[j*n+i]; max(d, -d) > largest/32 {
				return false
			}
		}
	}
	return true
}
