package check

import (
	"context"
	"slices"
)

// valueCodes are the codes of what only a look at the values finds.
var valueCodes = []string{
	"weight-nonfinite", "weight-zero", "weight-constant", "zero-region", "norm-constant", "layer-unlike", "weight-size", "rows-equal", "code-range", "mtp-copy-stale", "codes-short",
	"scale-nonfinite", "scale-zero", "scale-negative", "scale-unset", "scale-absurd", "scale-bias-wrong", "offset-nonzero", "weight-shape-wrong", "router-bias-rounded", "router-bias-zero",
}

// ReadWeights reads every weight of an inspected checkpoint and adds what it
// finds to Problems.
func (in *Inspection) ReadWeights(ctx context.Context) error {
	r, err := Run(ctx, in.Dir, Options{Weights: true, NoHashes: true})
	if err != nil {
		return err
	}
	for _, f := range r.Findings {
		if slices.Contains(valueCodes, f.Code) {
			in.Problems = append(in.Problems, f.Where+": "+f.Detail)
		}
	}
	return nil
}
