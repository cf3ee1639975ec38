package declaration_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// TestQuarkClasses: schemes by class are read as groups, and a problem says that
// what is stored does not follow from them.
func TestQuarkClasses(t *testing.T) {
	head := `{"quant_method": "quark", "export": {"pack_method": "reorder"}, "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}, "layer_type_quant_config": `
	for _, c := range []struct {
		name, classes string
		want          map[string]format.Strategy
		problem       bool
	}{
		{"none", `{}`, nil, false},
		{"absent", `null`, nil, false},
		{"a list", `[]`, nil, false},
		{"two", `{"Linear": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_channel"}}, "RowParallelLinear": {"weight": {"dtype": "int8", "qscheme": "per_tensor"}}}`,
			map[string]format.Strategy{"Linear": format.Channel, "RowParallelLinear": format.Tensor}, true},
		{"without a weight", `{"Linear": {"weight": null}}`, map[string]format.Strategy{"Linear": 0}, true},
		{"no object", `7`, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := declaration.Config([]byte(head + c.classes + "}"))
			require.NoError(t, err)
			got := map[string]format.Strategy{}
			for class, g := range d.Classes {
				got[class] = g.Weights.Strategy
			}
			assert.Len(t, got, len(c.want))
			for class, s := range c.want {
				assert.Equal(t, s, got[class], class)
			}
			assert.Equal(t, c.problem, d.Has(declaration.Unsupported), "%v", d.Problems)
			assert.Equal(t, format.Tensor, d.Groups[0].Weights.Strategy, "what is stored is the global scheme's, or not judged")
		})
	}
}
