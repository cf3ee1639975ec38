package check

import (
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/numeric"
)

// inputsTolerance is how far a stored scale of an input may be from that of the
// recorded maximum, relative: both are float32 of one division.
const inputsTolerance = 1e-3

// compareInputs holds the stored scales of quantized inputs against the largest
// magnitudes that the manifest has: whether such a scale is right cannot be seen
// in a weight, and one that is wrong by a small factor saturates or coarsens
// every input without a sign.
func (s *subject) compareInputs(m *quant.Manifest) {
	if m.Inputs == nil || s.ckpt == nil {
		return
	}
	scales, top := map[*module]float32{}, map[string]float32{} // one maximum for all modules that engines read with one scale
	for _, x := range s.modules {
		st := s.partsOf(x)
		if st == nil || st.Global.Name == "" {
			continue
		}
		scale, ok, err := st.InputScale(s.ckpt)
		if err != nil || !ok {
			continue // what is missing or malformed is found where tensors are compared
		}
		scales[x] = scale
		if v, ok := m.Inputs.Of(x.row.Module); ok {
			set := quant.InputSet(&x.row)
			top[set] = max(top[set], v)
		}
	}
	for _, x := range s.modules {
		amax, known := top[quant.InputSet(&x.row)]
		got, stored := scales[x]
		if want := numeric.TimesNVFP4(amax); known && stored && !near(got, want, inputsTolerance) {
			s.add("input-scale-changed", s.partsOf(x).Input.Name, "it is that of inputs up to %.4g; conversion saw up to %.4g (%s)", got/want*amax, amax, m.Inputs.Source)
		}
	}
}

// near reports whether a is within a part of b.
func near(a, b float32, part float64) bool {
	return float64(a) >= float64(b)*(1-part) && float64(a) <= float64(b)*(1+part)
}
