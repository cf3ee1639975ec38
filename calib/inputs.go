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

// InputsOptions say how Inputs works.
type InputsOptions struct {
	Name      string // of the text, for the manifest
	MaxMemory int64  // for the states of tokens and the tiles of weights; 0: 1 GiB
}

// Inputs runs a checkpoint over token ids, layer by layer from its files, and
// returns the largest magnitude that the input of each projection took, MTP
// layer included: what schemes with a global scale of the input need
// (quant.Options.Inputs). Maxima are rounded to BF16. As many sequences at a
// time are run as memory allows: the maxima do not depend on it.
func Inputs(ctx context.Context, src *safetensors.Checkpoint, seqs [][]int, o InputsOptions) (*quant.Inputs, error) {
	cfg, err := glm.LoadConfig(src.Dir())
	if err != nil {
		return nil, err
	}
	if o.MaxMemory <= 0 {
		o.MaxMemory = 1 << 30
	}
	in := &quant.Inputs{AbsMax: map[string]float32{}}
	tokens := 0
	for at := 0; at < len(seqs); {
		n, some := 0, 0
		for at+n < len(seqs) && (n == 0 || inputsNeed(cfg, some+len(seqs[at+n])) <= o.MaxMemory) {
			some += len(seqs[at+n])
			n++
		}
		if err := inputsOf(ctx, cfg, src, seqs[at:at+n], min(max(o.MaxMemory/64, 64<<10), 16<<20), in.AbsMax); err != nil {
			return nil, err
		}
		at, tokens = at+n, tokens+some
	}
	in.Source = fmt.Sprintf("%s, %d tokens", o.Name, tokens)
	return in, nil
}

// inputsNeed is what running some tokens at once takes: their states, and
// queries, keys and the widest inputs of MLPs of a block of them.
func inputsNeed(cfg *glm.Config, tokens int) int64 {
	const block = 256
	wide := max(cfg.IntermediateSize, cfg.MoEIntermediateSize*max(cfg.ExpertsPerToken, 1), cfg.Heads*max(cfg.HeadDim, cfg.VHeadDim))
	return int64(64<<20) + int64(tokens)*int64(cfg.HiddenSize)*4*8 + block*int64(wide)*4*4
}

// inputsOf adds the maxima over a few sequences.
func inputsOf(ctx context.Context, cfg *glm.Config, src *safetensors.Checkpoint, seqs [][]int, tile int64, top map[string]float32) error {
	p, err := runtime.NewStreaming(cfg, src, tile)
	if err != nil {
		return err
	}
	defer p.Stop()
	observe := func(w *glm.Tensor, _ int, x func() []float32) error {
		if w.Role.IsLinear() {
			top[w.Module] = max(top[w.Module], numeric.RoundBF16(numeric.AbsMax(x())))
		}
		return nil
	}
	m, err := runtime.New(cfg, p, runtime.Options{Observe: observe, Block: 256})
	if err != nil {
		return err
	}
	states, err := m.Evaluate(ctx, seqs, runtime.EvalOptions{})
	if err != nil {
		return err
	}
	draft, err := m.MTP()
	if err != nil {
		return nil //nolint:nilerr // there is none, or it is not whole: the plan tells which
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
	return err
}
