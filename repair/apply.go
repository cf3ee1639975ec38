package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/undo"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/safetensors"
)

const chunk = 4 << 20 // bytes of a tensor in memory

func (p *Plan) state(parts ...string) string { return undo.Path(p.Dir, parts...) }

// Apply does what was decided. Errors: safetensors.ErrLocked, those of reading
// and writing; whatever fails, Undo puts the folder back. A repair that was
// interrupted is put back first, and then decided again.
func (p *Plan) Apply(ctx context.Context) error {
	if len(p.Steps) == 0 && !p.fresh {
		return nil
	}
	unlock, err := fsx.Lock(p.Dir)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Dir, err)
	}
	defer func() { _ = unlock() }()
	if r, err := undo.Read(p.fs, p.Dir); err == nil {
		if r.Done {
			if now, err := NewPlan(ctx, p.Dir, p.options); err != nil || len(now.Steps) == 0 {
				return err // another process did it meanwhile
			}
			return fmt.Errorf("%s: an earlier repair can still be undone; undo it, or delete the folder to keep it", p.state())
		}
		if err := undo.Back(p.fs, p.Dir, r); err != nil {
			return err
		}
		now, err := NewPlan(ctx, p.Dir, p.options)
		if err != nil {
			return err
		}
		if *p = *now; len(p.Steps) == 0 {
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if err := undo.Clear(p.fs, p.Dir); err != nil { // interrupted before anything changed
		return err
	}
	for _, d := range []string{"old", "new"} {
		if err := p.fs.MkdirAll(p.state(d)); err != nil {
			return err
		}
	}
	if err := p.fs.SyncDir(p.Dir); err != nil { // without its name nothing in it would survive
		return err
	}
	order, sums, err := p.stage(ctx)
	if err != nil {
		return errors.Join(err, undo.Clear(p.fs, p.Dir))
	}
	if err := p.commit(ctx, order, sums); err != nil || !p.fresh {
		return err
	}
	return p.finish()
}

// stage writes the new files; it returns their names in the order in which
// they get them.
func (p *Plan) stage(ctx context.Context) (order []string, files []quant.ManifestFile, err error) {
	own, err := safetensors.OpenDirOptions(p.from(), safetensors.Options{AllErrors: true})
	if err != nil {
		return nil, nil, err
	}
	defer own.Close()
	base := own
	if p.base != "" {
		if base, err = safetensors.OpenDir(p.base); err != nil {
			return nil, nil, err
		}
		defer base.Close()
	}
	var entries []safetensors.IndexEntry
	var total int64
	add := func(name, file string, size int64) {
		entries = append(entries, safetensors.IndexEntry{Tensor: name, File: file})
		total += size
	}
	for _, t := range p.kept {
		add(t.Name, t.File, t.Size)
	}
	for _, tensor := range slices.Sorted(maps.Keys(p.unread)) {
		add(tensor, p.unread[tensor], 0)
	}
	for _, file := range slices.Sorted(maps.Keys(p.shards)) {
		sum, size, err := p.writeShard(ctx, file, own, base)
		if err != nil {
			return nil, nil, err
		}
		order, files = append(order, file), append(files, quant.ManifestFile{Name: file, Size: size, SHA256: sum})
		for _, s := range p.shards[file] {
			add(s.as, file, s.info.Size)
		}
	}
	texts := p.texts()
	if p.index {
		if texts[p.indexAs], err = safetensors.EncodeIndex(entries, total); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range []string{"config.json", modelOptFile, declaration.DescriptionName, p.indexAs} {
		if texts[name] == nil {
			continue
		}
		if err := fsx.WriteFile(p.fs, p.state("new", name), texts[name]); err != nil {
			return nil, nil, err
		}
		order, files = append(order, name), append(files, manifestFile(name, texts[name]))
	}
	return order, files, nil
}

// texts are the files beside the weights and the index that change.
func (p *Plan) texts() map[string][]byte {
	out := map[string][]byte{}
	if p.config != nil {
		out["config.json"] = p.config
	}
	if p.description != nil {
		out[declaration.DescriptionName] = p.description
	}
	if p.beside != nil {
		out[modelOptFile] = p.beside
	}
	return out
}

// writeShard writes one shard in pieces.
func (p *Plan) writeShard(ctx context.Context, file string, own, base *safetensors.Checkpoint) (sum string, size int64, err error) {
	list := slices.Clone(p.shards[file])
	slices.SortStableFunc(list, func(a, b source) int { return b.info.DType.Bits() - a.info.DType.Bits() }) // keeps all aligned
	specs := make([]safetensors.Spec, len(list))
	for i, s := range list {
		specs[i] = safetensors.Spec{Name: s.as, DType: s.info.DType, Shape: s.info.Shape}
	}
	plan, err := safetensors.PlanFile(file, specs, map[string]string{"format": "pt"})
	if err != nil {
		return "", 0, err
	}
	w, err := safetensors.Create(p.fs, p.state("new"), plan)
	if err != nil {
		return "", 0, err
	}
	buf := make([]byte, chunk)
	for _, s := range list {
		from := own
		if s.base {
			from = base
		}
		for off := int64(0); off < s.info.Size; {
			b := buf[:min(chunk, s.info.Size-off)]
			if err := errors.Join(ctx.Err(), from.ReadAt(s.info, off, b)); err != nil {
				return "", 0, errors.Join(err, w.Abort())
			}
			if _, err := w.Write(b); err != nil {
				return "", 0, errors.Join(err, w.Abort())
			}
			off += int64(len(b))
		}
	}
	sum, err = w.Commit()
	return sum, plan.Size, err
}

// commit moves the former files away and gives the new ones their names.
func (p *Plan) commit(ctx context.Context, order []string, files []quant.ManifestFile) error {
	r := &undo.Receipt{}
	if !p.fresh {
		r.Kept = slices.Clone(p.remove)
	}
	for _, name := range order {
		if _, err := p.fs.Stat(filepath.Join(p.Dir, name)); err == nil {
			r.Kept = append(r.Kept, name)
		} else {
			r.Created = append(r.Created, name)
		}
	}
	manifest, err := p.manifest(files)
	if err != nil {
		return err
	}
	if manifest != nil {
		if err := fsx.WriteFile(p.fs, p.state("new", quant.ManifestName), manifest); err != nil {
			return err
		}
		order, r.Kept = append(order, quant.ManifestName), append(r.Kept, quant.ManifestName)
	}
	for _, name := range r.Kept {
		if err := fsx.LinkOrCopy(ctx, p.fs, filepath.Join(p.Dir, name), p.state("old", name)); err != nil {
			return errors.Join(err, undo.Clear(p.fs, p.Dir))
		}
	}
	if err := p.fs.SyncDir(p.state("old")); err != nil {
		return err
	}
	if err := undo.Write(p.fs, p.Dir, r); err != nil {
		return err
	}
	for _, name := range order {
		if err := p.fs.Rename(p.state("new", name), filepath.Join(p.Dir, name)); err != nil {
			return err
		}
	}
	for _, name := range p.remove {
		if err := p.fs.Remove(filepath.Join(p.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range []string{p.state("new"), p.Dir} { // both ends of a rename
		if err := p.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	r.Done = true
	return undo.Write(p.fs, p.Dir, r)
}
