package calib

import (
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/numeric"
)

// global returns the global scale of a weight's fused set (NVFP4): the one that
// the conversion takes, of the same weights in the same order.
func (s *solver) global(it *quant.Item, spec numeric.Spec) (float32, error) {
	set := s.plan.GlobalSet(it.Weight.Tensor)
	if g, ok := s.globals[set]; ok {
		return g, nil
	}
	var sample numeric.SampleGlobal
	for i := range s.plan.Items {
		other := &s.plan.Items[i]
		if !other.HasGlobalScale() || s.plan.GlobalSet(other.Weight.Tensor) != set {
			continue
		}
		w, err := s.src.weight(other)
		if err != nil {
			return 0, err
		}
		_, cols := other.Weight.Dims()
		if err := sample.Add(w, cols); err != nil {
			return 0, err
		}
	}
	s.globals[set] = sample.ScaleOf(spec)
	return s.globals[set], nil
}
