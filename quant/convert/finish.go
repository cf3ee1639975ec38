package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
)

// finish completes the result once every shard is there: the source's other
// files, the configuration, the index, a look at what was written, and the
// manifest. It returns the shards that are still missing.
func (c *converter) finish(ctx context.Context) (pending []string, err error) {
	unlock, err := c.waitLock(ctx, "finish.lock") // so that one of several parts does it
	if err != nil {
		return nil, c.unlessFinished(err)
	}
	defer unlock()
	receipts, pending, err := c.receipts(ctx)
	if c.finished() { // the other part was faster
		return nil, c.removeState()
	}
	if err != nil {
		return nil, err
	}
	if len(pending) > 0 {
		return pending, c.missing(pending)
	}
	if _, err := fsx.RemoveTemps(c.fs, c.dst); err != nil { // of killed runs
		return nil, err
	}
	m, err := c.manifest(receipts)
	if err != nil {
		return nil, err
	}
	if m.Source, err = c.origin(ctx); err != nil {
		return nil, err
	}
	for _, s := range c.plan.Sidecars {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := c.copySidecar(ctx, s)
		if err != nil {
			return nil, err
		}
		m.Files = append(m.Files, f)
	}
	for _, name := range slices.Sorted(maps.Keys(c.plan.Configs)) {
		if err := c.putFile(m, name, c.plan.Configs[name].Bytes()); err != nil {
			return nil, err
		}
	}
	if c.plan.Options.Rotation != nil && c.plan.Format == layout.Ascend {
		if err := c.putRotation(ctx, m); err != nil {
			return nil, err
		}
	}
	index, err := c.plan.Index()
	if err != nil {
		return nil, err
	}
	if err := c.putFile(m, c.plan.IndexName, index); err != nil {
		return nil, err
	}
	if err := fsx.Reading(c.fs, c.dst, func() error { return c.plan.VerifyOutput(c.dst) }); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	err = fsx.WriteFile(c.fs, filepath.Join(c.dst, quant.ManifestName), append(b, '\n'))
	if err != nil && !(errors.Is(err, fs.ErrExist) && c.finished()) { // a bucket: another part was faster, which knows less or more of the checks
		return nil, err
	}
	return nil, c.removeState()
}

// manifest collects what the shards' receipts say.
func (c *converter) manifest(receipts []*receipt) (*quant.Manifest, error) {
	m := c.plan.Manifest(c.o.Version)
	var stats []tensorStats
	for _, r := range receipts {
		m.Files = append(m.Files, quant.ManifestFile{Name: r.Name, Size: r.Size, SHA256: r.SHA256, SourceXXH3: r.Sum})
		stats = append(stats, r.Tensors...)
		m.Zeros = append(m.Zeros, r.Zeros...)
	}
	m.Errors, m.Tensors = summarize(stats)
	m.Zeros = c.onlyFew(m.Zeros)
	c.summary, c.zeros = m.Errors, m.Zeros
	return m, nil
}

func (c *converter) putFile(m *quant.Manifest, name string, b []byte) error {
	if err := fsx.WriteFile(c.fs, filepath.Join(c.dst, name), b); err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	m.Files = append(m.Files, quant.ManifestFile{Name: name, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])})
	return nil
}

// copySidecar copies a file of the source in pieces.
func (c *converter) copySidecar(ctx context.Context, s quant.Sidecar) (quant.ManifestFile, error) {
	var none quant.ManifestFile
	path := filepath.Join(c.dst, s.Name)
	out, err := fsx.CreateTemp(c.fs, path)
	if err != nil {
		return none, err
	}
	sum, n, err := c.copySource(ctx, out, s)
	if err != nil {
		return none, errors.Join(err, fsx.Discard(c.fs, out))
	}
	if err := fsx.Commit(c.fs, out, path); err != nil {
		return none, err
	}
	return quant.ManifestFile{Name: s.Name, Size: n, SHA256: sum}, nil
}
