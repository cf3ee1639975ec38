package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/calib"
	"github.com/glmconv/glmconv/internal/share"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify/corpus"
)

// What is read of the built-in corpus for the maxima of inputs.
const (
	inputTokens = 2048
	inputLength = 128
)

// withInputs completes a plan whose scheme quantises inputs below a global
// scale: a forward pass over the built-in corpus says how large they get.
func withInputs(c *cli.Context, src *safetensors.Checkpoint, p *quant.Plan) (*quant.Plan, error) {
	if !p.NeedsInputs() || c.Bool("no-forward") {
		return p, nil
	}
	o, err := convertOptions(c)
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.Load(src.Dir())
	if err != nil {
		return nil, &hinted{fmt.Errorf("%s needs a forward pass over text: %w", p.Scheme, err), "--scheme nvfp4a16 quantises weights alone and needs none"}
	}
	seqs, err := corpusIDs(c.Context, tok, src.Dir(), p.Config.VocabSize)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(c.App.ErrWriter, "note: a forward pass over the built-in corpus measures the inputs that %s quantises\n", p.Scheme)
	in, err := calib.Inputs(c.Context, src, seqs, calib.InputsOptions{Name: corpus.Name, MaxMemory: o.MaxMemory})
	if err != nil {
		return nil, err
	}
	return p.WithInputs(src, in)
}

// corpusIDs are sequences of the built-in corpus under a checkpoint's tokenizer.
func corpusIDs(ctx context.Context, tok *tokenizer.Tokenizer, dir string, vocab int) ([][]int, error) {
	var ids []int
	for _, d := range corpus.Documents() {
		more, err := tok.EncodeContext(ctx, d)
		if err != nil {
			return nil, err
		}
		for _, id := range more {
			if id < 0 || id >= vocab {
				return nil, fmt.Errorf("%s: tokenizer.json has token %d, config.json a vocabulary of %d", dir, id, vocab)
			}
			ids = append(ids, id)
		}
	}
	return share.Pieces(ids, inputTokens, inputLength), nil
}
