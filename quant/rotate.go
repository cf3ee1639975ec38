package quant

import (
	"context"
	"errors"

	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/rotation"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// Rotated is a checkpoint in another basis and the plan of its conversion.
type Rotated struct {
	*safetensors.Checkpoint // of the rotated model: what convert.Run takes
	Plan                    *Plan

	dir string // what was rotated

	view    *rotation.View
	unmount func()
}

// OpenRotated opens the checkpoint in dir, rotates it (package rotation) and
// plans its conversion: weights that are quantized are rotated in F32 and
// rounded once. Folds move before that. ctx ends its reads. cache is how many bytes of weights may be
// kept while they are rotated, 0 for 1 GiB.
//
// Only Ascend has a place for what the drafts of a rotated model need; another
// format is refused unless the MTP layer is left out.
func OpenRotated(ctx context.Context, dir string, scheme Scheme, format Format, o Options, cache int64) (r *Rotated, err error) {
	plain, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	o.Rotation, o.Requantize = nil, true // a view is of full precision, and bf16 of it is something else
	p, err := NewPlan(plain, scheme, format, o)
	_ = plain.Close()
	if err != nil {
		return nil, err
	}
	drafts := p.Model.MTP != nil && o.MTP != layout.MTPDrop
	if drafts && format == "" && scheme == layout.BF16 { // drafts need what its description says
		p.Format = layout.Ascend
	}
	if drafts && p.Format != layout.Ascend {
		return nil, &layout.ImpossibleError{What: "a rotated model with an MTP layer as " + string(p.Format),
			Rule:    "engines multiply the draft's input by rot.weight in Ascend checkpoints only",
			Nearest: "--format ascend, or --mtp drop"}
	}
	if o.Rotation, err = rotation.New(p.Config, drafts); errors.Is(err, rotation.ErrImpossible) {
		return nil, &layout.ImpossibleError{What: "a rotated " + string(p.Config.Family), Rule: err.Error(),
			Nearest: "without rotation; an MTP layer can be left out"}
	}
	if err != nil {
		return nil, err
	}
	o.Rotation.Folds = p.Folds
	quantized := map[string]bool{}
	for i := range p.Items {
		if p.Items[i].Action == Quantize {
			quantized[p.Items[i].Name()] = true
		}
	}
	r = &Rotated{dir: dir}
	vo := rotation.ViewOptions{Wide: func(name string) bool { return quantized[name] }, Copies: drafts, Matrix: drafts, Cache: cache}
	if r.view, err = rotation.NewView(dir, o.Rotation, vo); err != nil {
		return nil, err
	}
	if r.unmount, err = source.Mount(ctx, r.view); err != nil {
		return nil, errors.Join(err, r.view.Close())
	}
	if r.Checkpoint, err = safetensors.OpenDir(r.view.Name()); err == nil {
		err = r.replan(scheme, p.Format, o)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Replan plans again with the ranges of the rotated model's inputs and caches.
func (r *Rotated) Replan(inputs map[string]Range, caches map[string][]Range) error {
	o := r.Plan.Options
	o.Ranges, o.CacheRanges = inputs, caches
	return r.replan(r.Plan.Scheme, r.Plan.Format, o)
}

func (r *Rotated) replan(scheme Scheme, format Format, o Options) (err error) {
	if r.Plan, err = NewPlan(r.Checkpoint, scheme, format, o); err == nil {
		r.Plan.origin = r.dir
	}
	return err
}

// moved are the powers of two that move between tensors, before a rotation if
// there is one; nil: none.
func (p *Plan) moved() *fold.Set {
	if r := p.Options.Rotation; r != nil {
		return r.Folds
	}
	return p.Folds
}

// Close closes the checkpoint and forgets the rotated one.
func (r *Rotated) Close() error {
	var err error
	if r.Checkpoint != nil {
		err = r.Checkpoint.Close()
	}
	r.unmount()
	return errors.Join(err, r.view.Close())
}
