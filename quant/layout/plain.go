package layout

import (
	"fmt"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// unquantized is a checkpoint in full precision: BF16 as the publishers release it.
// Matrices become BF16, each value rounded once from float32; norms, biases
// and the router's bias keep their type (docs/facts/formats.md 10.2).
type unquantized struct{ common }

func (unquantized) Format() Format                             { return Plain }
func (unquantized) Reference() string                          { return "PyTorch rounds" }
func (unquantized) schemes() []Scheme                          { return []Scheme{BF16} }
func (unquantized) label(*Weight) string                       { return "BF16" }
func (unquantized) weightParams() []string                     { return nil }
func (unquantized) find(*tensors, Hints) (Stored, bool, error) { return Stored{}, false, nil }

func (unquantized) choose(*glm.Config, *glm.Tensor, *Options) (choice, string) {
	return choice{}, "scheme " + string(BF16)
}

// settle makes matrices BF16.
func (unquantized) settle(out []Decision) {
	for i := range out {
		w := &out[i].Weight
		if isFloatType(w.Source) && len(w.Tensor.Shape) >= 2 && w.Tensor.Role != glm.RouterBias {
			w.DType = safetensors.BF16
		}
	}
}

func (unquantized) Outputs(w Weight) []safetensors.Spec { return floatOutput(&w) }

func (unquantized) Numeric(w Weight, a Arith) numeric.Spec { return numeric.Spec{Arith: a} }

func (unquantized) AppendTile(w Weight, _ int, _ *numeric.Matrix, _ [][]byte) ([][]byte, error) {
	return nil, fmt.Errorf("layout: %s has no codes", w.Tensor.Name)
}

func (unquantized) read(_ *Buffer, _ TensorReader, s *Stored, _, _ int) (*numeric.Matrix, error) {
	return nil, fmt.Errorf("layout: %s has no codes: %w", s.Module, ErrForeign)
}

func (unquantized) Config(d Decisions) (map[string][]byte, error) {
	raw, err := stripQuantization(d.Config.Raw)
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"torch_dtype", "dtype"} {
		set := func(b []byte) ([]byte, error) {
			if !hasKey(b, "", key) {
				return b, nil
			}
			return setKey(b, key, []byte(`"bfloat16"`))
		}
		if raw, err = inSub(raw, "text_config", set); err != nil {
			return nil, err
		}
		if raw, err = set(raw); err != nil {
			return nil, err
		}
	}
	if raw, err = adjustMTP(raw, d); err != nil {
		return nil, err
	}
	return map[string][]byte{"config.json": raw}, nil
}

// isFloatType reports whether weights of full precision have the dtype.
func isFloatType(d safetensors.DType) bool {
	return d == safetensors.BF16 || d == safetensors.F16 || d == safetensors.F32
}
