package calib

import (
	"context"
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// Inputs runs a checkpoint over token ids, layer by layer from its files, and
// returns the largest magnitude that the input of each projection took, MTP
// layer included: what schemes with a global scale of the input need
// (quant.Options.Inputs). name says what was read, for the manifest. tile is how
// many bytes of a weight are in memory at once. Maxima are rounded to BF16.
func Inputs(ctx context.Context, src *safetensors.Checkpoint, seqs [][]int, name string, tile int64) (*quant.Inputs, error) {
	cfg, err := glm.LoadConfig(src.Dir())
	if err != nil {
		return nil, err
	}
	p, err := runtime.NewStreaming(cfg, src, tile)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	in := &quant.Inputs{AbsMax: map[string]float32{}}
	observe := func(w *glm.Tensor, _ int, x func() []float32) error {
		if w.Role.IsLinear() {
			in.AbsMax[w.Module] = max(in.AbsMax[w.Module], numeric.RoundBF16(numeric.AbsMax(x())))
		}
		return nil
	}
	m, err := runtime.New(cfg, p, runtime.Options{Observe: observe, Block: 256})
	if err != nil {
		return nil, err
	}
	states, err := m.Evaluate(ctx, seqs, runtime.EvalOptions{})
	if err != nil {
		return nil, err
	}
	tokens := 0
	for _, s := range seqs {
		tokens += len(s)
	}
	in.Source = fmt.Sprintf("%s, %d tokens", name, tokens)
	draft, err := m.MTP()
	if err != nil {
		return in, nil //nolint:nilerr // there is none, or it is not whole: the plan tells which
	}
	var ids []int
	var h []float32
	var spans []runtime.Span
	for i, s := range seqs {
		n := len(s) - 1
		if n <= 0 {
			continue
		}
		ids, h = append(ids, s[1:]...), append(h, states[i].Final[:n*cfg.HiddenSize]...)
		spans = append(spans, runtime.Span{N: n, Cache: new(runtime.LayerCache)})
	}
	if len(spans) > 0 {
		_, _, err = draft.Step(ctx, slices.Clip(ids), h, spans, nil)
	}
	return in, err
}
