package check

import (
	"bytes"
	"context"
	"math"
	"slices"

	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// roundedRow tells whether a row is another one rounded to FP8 with a scale of
// its own, as FP8 releases store the head's copy (docs/facts/formats.md 1.2), and
// widened again: every value is half a step of E4M3 away at most, and stands on
// the grid of the row's scale, but for the rounding to BF16.
func roundedRow(a, b []byte, d safetensors.DType) bool {
	dec, err := layout.DecoderOf(d)
	if err != nil {
		return false
	}
	x, y := make([]float32, len(a)/dec.Size), make([]float32, len(b)/dec.Size)
	dec.Decode(x, a)
	dec.Decode(y, b)
	scale := numeric.AbsMax(x) / numeric.E4M3Max
	if scale == 0 {
		return numeric.AbsMax(y) == 0
	}
	for i, v := range x {
		u := v / scale
		short := math.Abs(float64(u)) / 128 // of BF16: of the value, and of the scale
		code := numeric.E4M3ToF32(numeric.F32ToE4M3(u))
		if math.Abs(float64(u-code)) > short {
			return false
		}
		step := max(math.Exp2(math.Floor(math.Log2(math.Abs(float64(code))))-3), 1.0/512)
		if math.Abs(float64(u-y[i]/scale)) > 0.5*step+2*short+1.0/1024 {
			return false
		}
	}
	return true
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
		if !aok || !bok || a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) || len(a.Shape) != 2 || a.Size == 0 ||
			a.Shape[1] != int64(s.cfg.HiddenSize) {
			continue // checkTensors and checkOrigin speak of those
		}
		row := a.Size / a.Shape[0]
		jobs = append(jobs, job{a.Size + b.Size, func(ctx context.Context) ([]Finding, error) {
			rows, first, last, buf := int64(0), int64(-1), int64(-1), make([]byte, row)
			at := int64(0)
			var rerr error
			rounded, whole := true, make([]byte, 0, row) // the copy's row as far as it was read
			err := s.each(ctx, a, func(p []byte, _ int64) {
				for len(p) > 0 && rerr == nil {
					n := min(row-at%row, int64(len(p)))
					if rerr = s.ckpt.ReadAt(b, at, buf[:n]); rerr == nil && !bytes.Equal(p[:n], buf[:n]) && at/row != last {
						if rows++; first < 0 {
							first = at / row
						}
						last = at / row
					}
					if whole = append(whole, p[:n]...); int64(len(whole)) == row && rerr == nil {
						if own := buf; last == (at+n-1)/row && rounded {
							rerr = s.ckpt.ReadAt(b, at+n-row, own)
							rounded = rerr == nil && roundedRow(whole, own, a.DType)
						}
						whole = whole[:0]
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
			if rows == a.Shape[0] && rounded {
				f.Detail = "it is " + b.Name + " rounded: FP8 releases store it so, and engines take the model's own"
				return []Finding{*f.as(Warning)}, nil
			}
			f.hint("take the model's own again; engines that load the copy draft with other rows than the model has")
			return []Finding{f}, nil
		}})
	}
	return jobs
}
