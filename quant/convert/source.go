package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/bytesum"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// A shard is of the source that was read: its receipt has the identities of the
// source's files and a checksum of the bytes that went into it. While the
// identities are the same, so are the bytes. Where they differ (a copy of the
// source, a second name, a changed byte under a time that was put back) the
// bytes are read again and decide.

// sourceFile is a file of the source as the system described it.
type sourceFile struct {
	Name string `json:"name"`
	fsx.Identity
}

// sourceFiles describes the files that a shard is made from, by name.
func (c *converter) sourceFiles(f *quant.File, stat func(name string) (fs.FileInfo, error)) ([]sourceFile, error) {
	var out []sourceFile
	for _, name := range c.sourceNames(f) {
		st, err := stat(name)
		if err != nil {
			return nil, err
		}
		out = append(out, sourceFile{name, fsx.IdentityOf(st)})
	}
	return out, nil
}

// sourceNames are the files of the source that a shard is made from, sorted.
func (c *converter) sourceNames(f *quant.File) []string {
	var names []string
	for _, i := range f.Items {
		it := &c.plan.Items[i]
		if it.Action == quant.Make {
			continue
		}
		names = append(names, it.Source.File)
		if bias, ok := c.biasOf(it); ok {
			names = append(names, bias.File)
		}
		if it.Stored != nil {
			for _, t := range it.Stored.Parts() {
				names = append(names, t.File)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// opened describes a file as it was when the plan was made.
func (c *converter) opened(name string) (fs.FileInfo, error) {
	if st := c.src.Opened(name); st != nil {
		return st, nil
	}
	return nil, &fs.PathError{Op: "stat", Path: filepath.Join(c.src.Dir(), name), Err: fs.ErrNotExist}
}

// sameSource reports whether the bytes that gave sum when the source's files
// were as in was are those that the source has now, and how its files are now.
func (c *converter) sameSource(ctx context.Context, f *quant.File, was []sourceFile, sum uint64) (now []sourceFile, same bool, err error) {
	now, err = c.sourceFiles(f, c.src.Stat)
	if err != nil || slices.Equal(now, was) {
		return now, err == nil, err
	}
	if differ(now, was) {
		return now, false, nil
	}
	for try := 1; ; try++ {
		again, err := c.readAgain(ctx, f)
		if err != nil {
			var gone *safetensors.Error
			if errors.As(err, &gone) && !errors.Is(err, safetensors.ErrIO) {
				return now, false, nil // no longer what was planned from
			}
			return now, false, err
		}
		still, err := c.sourceFiles(f, c.src.Stat)
		if err != nil || again != sum {
			return now, false, err
		}
		// A file that is touched while it is read may have been written to; one
		// that is touched again and again and always has the same bytes was not.
		// The receipt gets the identity from before the reading, so that whatever
		// happened meanwhile is looked at when it is read next.
		if slices.Equal(still, now) || try == rereads {
			return now, true, nil
		}
		if now = still; differ(now, was) {
			return now, false, nil
		}
	}
}

// rereads is how often bytes are read again while their file's times move.
const rereads = 3

// differ reports whether two descriptions cannot be of the same bytes.
func differ(a, b []sourceFile) bool {
	return !slices.EqualFunc(a, b, func(x, y sourceFile) bool { return x.Name == y.Name && x.Size == y.Size })
}

// readAgain reads the source's bytes of a shard by its files' present names and
// returns their checksum.
func (c *converter) readAgain(ctx context.Context, f *quant.File) (sum uint64, err error) {
	src, err := safetensors.OpenDir(c.src.Dir())
	if err != nil {
		return 0, err
	}
	defer src.Close()
	c.report(c.read.Load(), "reading the source of "+f.Plan.Name+" again")
	var s scratch
	for _, i := range f.Items {
		it := &c.plan.Items[i]
		if it.Action == quant.Make {
			continue
		}
		read := c.readItemAgain
		if it.Stored != nil {
			read = c.readStoredAgain
		}
		of, err := read(ctx, src, it, &s)
		if err != nil {
			return 0, err
		}
		sum += of
	}
	return sum, nil
}

// readItemAgain reads an item in the tiles in which it was read first.
func (c *converter) readItemAgain(ctx context.Context, src *safetensors.Checkpoint, it *quant.Item, s *scratch) (sum uint64, err error) {
	t, err := c.stillThere(src, it.Source)
	if err != nil {
		return 0, err
	}
	total, step, unit := c.cut(it)
	for at := 0; at < total; at += step {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		off, n := it.Offset+int64(at)*unit, int64(min(step, total-at))*unit
		if err := src.ReadAt(t, off, s.bytes(int(n))); err != nil {
			return 0, err
		}
		sum += bytesum.Rows(t.Name, off, rowSize(it), s.src)
	}
	return sum, nil
}

// stillThere finds a tensor where it was when the plan was made.
func (c *converter) stillThere(src *safetensors.Checkpoint, was safetensors.Info) (safetensors.Info, error) {
	t, ok := src.Info(was.Name)
	if !ok || t.File != was.File || t.Offset != was.Offset || t.Size != was.Size || t.DType != was.DType {
		return t, &safetensors.Error{Kind: safetensors.ErrChanged, File: filepath.Join(c.src.Dir(), was.File), Tensor: was.Name,
			Offset: -1, Reason: "is no longer where it was"}
	}
	return t, nil
}

// readStoredAgain is readAgain for a weight of a quantized source: in the tiles
// in which it was decoded.
func (c *converter) readStoredAgain(ctx context.Context, src *safetensors.Checkpoint, it *quant.Item, s *scratch) (uint64, error) {
	for _, t := range it.Stored.Parts() {
		if _, err := c.stillThere(src, t); err != nil {
			return 0, err
		}
	}
	r := &recorder{TensorReader: src}
	total, step, _ := c.cut(it)
	for at := 0; at < total; at += step {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if _, err := s.stored.ReadRows(r, *it.Stored, at, min(at+step, total)); err != nil {
			return 0, err
		}
	}
	return r.sum, nil
}

// seal completes the receipt of a shard that is written and has no name yet:
// the source must still be what was read.
func (c *converter) seal(ctx context.Context, f *quant.File, r *receipt, sum uint64) error {
	was, err := c.sourceFiles(f, c.opened)
	if err != nil {
		return err
	}
	now, same, err := c.sameSource(ctx, f, was, sum)
	if err != nil {
		return err
	}
	if !same {
		return sourceChanged(fmt.Sprintf("the source changed while %s was made from it (%s)", f.Plan.Name, changed(was, now)))
	}
	r.Source, r.Sum = now, bytesum.String(sum)
	c.confirm(r)
	return nil
}

func sourceChanged(reason string) error {
	return &quant.Error{Kind: ErrSourceChanged, Reason: reason, Resumable: true,
		Advice: "let nothing write to the source and resume: what was made from other bytes is made anew"}
}

// changed names the first file that two descriptions differ in.
func changed(was, now []sourceFile) string {
	for i := range min(len(was), len(now)) {
		if was[i] != now[i] {
			return was[i].Name
		}
	}
	return "other files"
}

// confirm remembers that a shard is of the source as its receipt describes it.
func (c *converter) confirm(r *receipt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.confirmed == nil {
		c.confirmed = map[string][]sourceFile{}
	}
	c.confirmed[r.Name] = r.Source
	delete(c.stale, r.Name)
}

// ofThisSource reports whether a shard was made from what the source is now.
// Receipts of versions that recorded nothing of the source cannot tell.
func (c *converter) ofThisSource(ctx context.Context, f *quant.File, r *receipt) (bool, error) {
	sum, ok := bytesum.Parse(r.Sum)
	if !ok {
		return false, nil
	}
	was := r.Source
	c.mu.Lock()
	if known := c.confirmed[r.Name]; known != nil {
		was = known
	}
	c.mu.Unlock()
	now, same, err := c.sameSource(ctx, f, was, sum)
	if err != nil {
		return false, err
	}
	if same {
		r.Source = now
		c.confirm(r)
		return true, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stale == nil {
		c.stale = map[string]string{}
	}
	c.stale[r.Name] = changed(was, now)
	return false, nil
}

// discard removes the shards that were made of a file of a mounted source whose
// bytes turned out not to be those that its listing promises: the hash is known
// only when the last of them has come.
func (c *converter) discard(err error) {
	var lie *source.Error
	if !errors.As(err, &lie) || lie.Kind != source.ErrRefused {
		return
	}
	for i := range c.plan.Files {
		f := &c.plan.Files[i]
		if slices.ContainsFunc(c.sourceNames(f), func(name string) bool { return path.Base(name) == path.Base(lie.Where) }) {
			_ = c.fs.Remove(c.state(f.Plan.Name + ".json"))
			_ = c.fs.Remove(filepath.Join(c.dst, f.Plan.Name))
		}
	}
}

// missing says what it means that shards are still to be written when this
// part has written its own; nil if other parts owe them.
func (c *converter) missing(pending []string) error {
	for _, name := range slices.Sorted(slices.Values(pending)) {
		if file, ok := c.stale[name]; ok {
			return sourceChanged(fmt.Sprintf("%s was made from other bytes of the source than it has now (%s)", name, file))
		}
	}
	if len(pending) > 0 && c.o.Count == 1 {
		return &quant.Error{Kind: ErrResultChanged, Reason: fmt.Sprintf("%s was written and is gone or changed", pending[0]),
			Advice: "let nothing else write to the result, and resume", Resumable: true}
	}
	return nil
}

// alreadyDone makes sure that a finished result of this plan was made from this
// source: every other file that was copied by its SHA-256, weights by the
// checksum of each shard of this part. recorded is false if the result is of a
// version that did not note it.
func (c *converter) alreadyDone(ctx context.Context, m *quant.Manifest) (recorded bool, err error) {
	files := map[string]quant.ManifestFile{}
	for _, f := range m.Files {
		files[f.Name] = f
	}
	for _, s := range c.plan.Sidecars {
		sum, _, err := safetensors.HashFile(filepath.Join(c.src.Dir(), s.Name))
		if err != nil {
			return false, err
		}
		if sum != files[s.Name].SHA256 {
			return false, c.ofAnotherSource(s.Name)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.Workers)
	for i := range c.plan.Files {
		f := &c.plan.Files[i]
		want := files[f.Plan.Name].SourceXXH3
		if want == "" {
			return false, g.Wait()
		}
		if part(c.plan, i, c.o.Count) != c.o.Index {
			continue
		}
		g.Go(func() error {
			sum, err := c.readAgain(ctx, f)
			if err == nil && bytesum.String(sum) != want {
				err = c.ofAnotherSource(c.plan.Items[f.Items[0]].Source.File)
			}
			return err
		})
	}
	return true, g.Wait()
}

func (c *converter) ofAnotherSource(file string) error {
	return fail(ErrDestination, "choose another directory, or remove this one",
		"%s holds a finished result of another source: %s of this one has other bytes", c.dst, file)
}

// copySource copies a file of the source; that something wrote to it meanwhile is
// an error. Where its times moved its bytes are read again and decide.
func (c *converter) copySource(ctx context.Context, out io.Writer, s quant.Sidecar) (sum string, n int64, err error) {
	in, err := fsx.OpenIn(c.src.Dir(), s.Name)
	if err != nil {
		return "", 0, err
	}
	defer in.Close()
	before, err := in.Stat()
	if err != nil {
		return "", 0, err
	}
	h := sha256.New()
	if n, err = io.Copy(io.MultiWriter(out, h), fsx.Stoppable(ctx, in)); err != nil {
		return "", n, err
	}
	after, err := in.Stat()
	if err != nil {
		return "", n, err
	}
	sum = hex.EncodeToString(h.Sum(nil))
	same := n == s.Size
	if same && fsx.IdentityOf(before) != fsx.IdentityOf(after) {
		again, size, err := safetensors.HashFile(filepath.Join(c.src.Dir(), s.Name))
		if err != nil {
			return "", n, err
		}
		same = again == sum && size == n
	}
	if !same {
		return "", n, &quant.Error{Kind: ErrSourceChanged, Reason: fmt.Sprintf("%s of the source changed: it had %d bytes, now %d", s.Name, s.Size, n),
			Advice: "put the file back as it was and resume, or begin anew", Resumable: true}
	}
	return sum, n, nil
}
