package check

import (
	"bytes"
	"context"
	"slices"

	"github.com/glmconv/glmconv/mtp"
)

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
			err := s.each(ctx, a, func(p []byte, off int64) {
				for len(p) > 0 && rerr == nil {
					n := min(row-at%row, int64(len(p)))
					if rerr = s.ckpt.ReadAt(b, at, buf[:n]); rerr == nil && !bytes.Equal(p[:n], buf[:n]) && at/row != last {
						if rows++; first < 0 {
							first = at / row
						}
						last = at / row
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
			f.hint("take the model's own again; engines that load the copy draft with other rows than the model has")
			return []Finding{f}, nil
		}})
	}
	return jobs
}
