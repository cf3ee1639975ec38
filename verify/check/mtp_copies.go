package check

import (
	"bytes"
	"context"
	"math"
	"slices"

	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// roundedCopy is how far a copy may be from the model's own, in every row, that
// was rounded to FP8 and back (docs/facts/formats.md 1.2).
const roundedCopy = 0.05

// squares returns Σ(a−b)² and Σb² of two runs of a floating-point tensor.
func squares(a, b []byte, d safetensors.DType) (diff, size float64) {
	dec, err := layout.DecoderOf(d)
	if err != nil {
		return math.Inf(1), 0
	}
	x, y := make([]float32, len(a)/dec.Size), make([]float32, len(b)/dec.Size)
	dec.Decode(x, a)
	dec.Decode(y, b)
	for i, v := range y {
		e := float64(x[i]) - float64(v)
		diff += e * e
		size += float64(v) * float64(v)
	}
	return diff, size
}

// copyJobs compares the MTP layer's copies of embedding and head with the
// model's own, byte by byte, when every weight or every byte is read anyway. In
// rotated checkpoints the heads differ rightly: each carries the gains of its
// own norm.
func (s *subject) copyJobs() (jobs []job) {
	if s.cfg == nil || s.ckpt == nil || !(s.opts.Weights || s.opts.Copies || s.report.Manifest && !s.opts.NoHashes) {
		return nil
	}
	embed, head := s.cfg.MTPNames(s.cfg.Layers)
	pairs := [][2]string{{embed, s.cfg.EmbeddingName()}, {head, s.cfg.HeadName()}}
	var raw []byte
	if s.ascend {
		raw, _ = s.read(s.description) // an error is loadDescription's to say
	}
	if mtp.Rotated(s.cfg, s.ckpt, raw) != nil {
		pairs = pairs[:1]
	}
	for _, c := range pairs {
		a, aok := s.tensors[c[0]]
		b, bok := s.tensors[c[1]]
		if !aok || !bok || a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) || len(a.Shape) != 2 || a.Size == 0 {
			continue // checkTensors and checkOrigin speak of those
		}
		row := a.Size / a.Shape[0]
		jobs = append(jobs, job{a.Size + b.Size, func(ctx context.Context) ([]Finding, error) {
			rows, first, last, buf := int64(0), int64(-1), int64(-1), make([]byte, row)
			at := int64(0)
			var rerr error
			var off, size float64 // squares, of what differs and of the model's own
			err := s.each(ctx, a, func(p []byte, _ int64) {
				for len(p) > 0 && rerr == nil {
					n := min(row-at%row, int64(len(p)))
					if rerr = s.ckpt.ReadAt(b, at, buf[:n]); rerr == nil && !bytes.Equal(p[:n], buf[:n]) && at/row != last {
						if rows++; first < 0 {
							first = at / row
						}
						last = at / row
						d, w := squares(p[:n], buf[:n], a.DType)
						off, size = off+d, size+w
					}
					p, at = p[n:], at+n
				}
			})
			if err == nil {
				err = rerr
			}
			if err != nil || rows == 0 {
				return nil, err
			}
			f := found("mtp-copy-stale", a.Name, sprintf("it is no copy of %s: %d of %d rows differ, the first is row %d", b.Name, rows, a.Shape[0], first))
			if rows == a.Shape[0] && off < roundedCopy*roundedCopy*size {
				f.Detail = "it is " + b.Name + " rounded: FP8 releases store it so, and engines take the model's own"
				return []Finding{*f.as(Warning)}, nil
			}
			f.hint("take the model's own again; engines that load the copy draft with other rows than the model has")
			return []Finding{f}, nil
		}})
	}
	return jobs
}
