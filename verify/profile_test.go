package verify

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/verify/diff"
)

// TestProfileFollowsTheParts: the budget is that of most of the weights.
func TestProfileFollowsTheParts(t *testing.T) {
	for name, tc := range map[string]struct {
		tensors []Tensor
		name    string
		tol     [2]float64 // at least, at most
	}{
		"copies":             {[]Tensor{{Elements: 100}}, "copy", [2]float64{1e-2, 1e-2}},
		"8 bits":             {[]Tensor{{Stored: diff.Form{Weight: format.Int8}, Elements: 100}, {Elements: 900}}, "8-bit", [2]float64{1e-2, 1e-2}},
		"4 bits":             {[]Tensor{{Stored: diff.Form{Weight: format.Int4(128)}, Elements: 100}}, "4-bit", [2]float64{5e-2, 5e-2}},
		"4-bit experts":      {[]Tensor{{Stored: diff.Form{Weight: format.Int4(0)}, Elements: 70}, {Stored: diff.Form{Weight: format.Int8}, Elements: 30}}, "4-bit", [2]float64{5e-2, 5e-2}},
		"one int4 module":    {[]Tensor{{Stored: diff.Form{Weight: format.Int4(128)}, Elements: 1}, {Stored: diff.Form{Weight: format.Float8}, Elements: 99}}, "8-bit with some 4-bit", [2]float64{1.01e-2, 1.2e-2}},
		"an eighth in 4 bit": {[]Tensor{{Stored: diff.Form{Weight: format.NVFP4}, Elements: 125}, {Stored: diff.Form{Weight: format.Float8}, Elements: 875}}, "8-bit with some 4-bit", [2]float64{2.9e-2, 3.1e-2}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Result{Tensors: tc.tensors}
			r.chooseProfile(0, nil)
			assert.Equal(t, tc.name, r.Profile.Name)
			assert.GreaterOrEqual(t, r.Tol, tc.tol[0])
			assert.LessOrEqual(t, r.Tol, tc.tol[1])
			r.chooseProfile(0.5, nil)
			assert.Equal(t, 0.5, r.Tol, "--tol counts")
		})
	}
}
