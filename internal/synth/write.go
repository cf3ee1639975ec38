package synth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

// chunkElements is how many elements one worker makes at a time.
const chunkElements = 1 << 20

// Write writes the checkpoint into dir, which must not exist or be empty:
// shards, then the small files, then the index. It uses a few megabytes of
// memory for each worker, whatever the size.
func (p *Plan) Write(ctx context.Context, dir string) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("synth: %s is not empty: %w", dir, fs.ErrExist)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("synth: %w", err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	for _, f := range p.Files {
		write := p.writeFile
		if p.opts.Sparse {
			write = writeSparse
		}
		if err := write(ctx, dir, f); err != nil {
			return fmt.Errorf("synth: %w", err)
		}
	}
	for name, text := range p.smallFiles() {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
			return fmt.Errorf("synth: %w", err)
		}
	}
	weights, total := p.weightMap()
	if err := safetensors.WriteIndex(fsx.OS, dir, safetensors.IndexName, weights, total); err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	return nil
}

// writeSparse writes a header and lets the data be a hole.
func writeSparse(ctx context.Context, dir string, plan *safetensors.FilePlan) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, plan.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(plan.Header())
	return errors.Join(err, f.Truncate(plan.Size), f.Close())
}

// chunk is a piece of a file: elements of one part.
type chunk struct {
	part  part
	first int64
	bytes int
	done  chan []byte
}

// writeFile makes chunks in parallel and writes them in order.
func (p *Plan) writeFile(ctx context.Context, dir string, plan *safetensors.FilePlan) (err error) {
	w, err := safetensors.Create(fsx.OS, dir, plan)
	if err != nil {
		return err
	}
	workers := p.opts.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan chunk)
	ordered := make(chan chunk, workers)
	// As many buffers as chunks can be under way: the memory of the whole.
	buffers := make(chan []byte, workers+2)
	for range cap(buffers) {
		buffers <- nil
	}
	g.Go(func() error {
		defer close(work)
		defer close(ordered)
		for _, t := range plan.Tensors() {
			for _, c := range p.chunks(t) {
				if err := send(ctx, ordered, c); err != nil {
					return err
				}
				if err := send(ctx, work, c); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for range workers {
		g.Go(func() error {
			for c := range work {
				var buf []byte
				select {
				case buf = <-buffers:
				case <-ctx.Done():
					return ctx.Err()
				}
				if cap(buf) < c.bytes {
					buf = make([]byte, max(c.bytes, 2*chunkElements))
				}
				buf = buf[:c.bytes]
				newStream(p.opts.Seed, c.part).fill(buf, c.first)
				c.done <- buf
			}
			return nil
		})
	}
	g.Go(func() error {
		for c := range ordered {
			select {
			case buf := <-c.done:
				if _, err := w.Write(buf); err != nil {
					return err
				}
				buffers <- buf
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return errors.Join(err, w.Abort())
	}
	_, err = w.Commit()
	return err
}

func send(ctx context.Context, ch chan<- chunk, c chunk) error {
	select {
	case ch <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// chunks cuts a tensor into pieces of at most chunkElements.
func (p *Plan) chunks(t safetensors.Info) []chunk {
	var list []chunk
	for _, part := range p.parts[t.Name] {
		width := int64(t.DType.Bits() / 8)
		for first := int64(0); first < part.elements; first += chunkElements {
			n := min(part.elements-first, chunkElements)
			list = append(list, chunk{part: part, first: first, bytes: int(n * width), done: make(chan []byte, 1)})
		}
	}
	return list
}
