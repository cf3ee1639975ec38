package check

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// checkManifest compares the files with the manifest, byte for byte unless
// Options.NoHashes is set.
func (s *subject) checkManifest(ctx context.Context, meter *meter) error {
	_, err := os.Stat(filepath.Join(s.dir, fsx.StateDir))
	if fsx.IsIO(err) {
		return err
	}
	unfinished := err == nil
	if !s.has(quant.ManifestName) {
		if unfinished {
			s.add("unfinished-conversion", fsx.StateDir, "receipts of a conversion are there and the manifest, which is written last, is not")
		} else {
			s.add("manifest-missing", quant.ManifestName, "written by another tool, or copied without it")
		}
		return nil
	}
	if unfinished {
		s.add("temp-file", fsx.StateDir, "left over from a conversion that was finished")
	}
	m, err := quant.ReadManifest(s.dir)
	if fsx.IsIO(err) {
		return err
	}
	if err != nil {
		s.add("manifest-invalid", quant.ManifestName, "%v", err)
		return nil
	}
	s.report.Manifest = true
	s.compareScheme(m)
	s.compareInputs(m)
	sound := s.compareFiles(m)
	if s.opts.NoHashes {
		return nil
	}
	return s.compareHashes(ctx, meter, sound)
}

// compareFiles compares names and sizes with the manifest's, and returns the
// files that have both.
func (s *subject) compareFiles(m *quant.Manifest) (sound []quant.ManifestFile) {
	listed := map[string]bool{quant.ManifestName: true}
	for _, f := range m.Files {
		listed[f.Name] = true
		size, ok := s.files[f.Name]
		beside := f.Name == layout.RotationFile // the one file in a folder of its own
		if beside {
			if st, err := fsx.Stat(filepath.Join(s.dir, f.Name)); err == nil && st.Mode().IsRegular() {
				size, ok = st.Size(), true
			}
		}
		switch {
		case f.Name != filepath.Base(f.Name) && !beside:
			s.add("manifest-invalid", f.Name, "the name leaves the directory")
		case !ok || size < 0:
			s.add("manifest-file-missing", f.Name, "the manifest lists it with %d bytes", f.Size)
		case size != f.Size:
			s.add("file-size", f.Name, "it has %d bytes, the manifest says %d", size, f.Size)
		default:
			sound = append(sound, f)
		}
	}
	names := make([]string, 0, len(s.files))
	for n := range s.files {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		switch {
		case listed[n] || fsx.IsTemp(n):
		case strings.HasSuffix(n, ".safetensors") && !strings.HasPrefix(n, "."), strings.HasSuffix(n, ".safetensors.index.json"):
			s.add("file-not-in-manifest", n, "the conversion did not write it (%d bytes)", s.files[n])
		default:
			s.add("file-changed", n, "the conversion did not write it")
		}
	}
	return sound
}

func (s *subject) compareHashes(ctx context.Context, meter *meter, files []quant.ManifestFile) error {
	files = s.ownFiles(files)
	for _, f := range files {
		meter.expect(f.Size)
	}
	sums := make([]string, len(files))
	order := make([]int, len(files))
	for i := range order {
		order[i] = i
	}
	// Largest first, so that no core idles at the end.
	slices.SortStableFunc(order, func(a, b int) int { return int(min(1, max(-1, files[b].Size-files[a].Size))) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.opts.Workers)
	for _, i := range order {
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			sums[i], err = s.hash(files[i].Name)
			if errors.Is(err, fs.ErrNotExist) {
				err = nil // removed meanwhile: an empty sum differs
			}
			meter.add(files[i].Size)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, f := range files {
		if sums[i] != strings.ToLower(f.SHA256) {
			s.add("hash-mismatch", f.Name, "SHA-256 is %.12s…, the manifest says %.12s…", sums[i], f.SHA256)
			continue
		}
		s.report.Hashed += f.Size
	}
	return nil
}

// compareScheme holds what the config says of each module against the scheme of
// the manifest, decided anew for the model: tensors show neither whether
// activations are quantized nor how.
func (s *subject) compareScheme(m *quant.Manifest) {
	if s.cfg == nil || s.decl == nil || s.decl.Declaration == nil || s.ascend || m.Scheme == layout.BF16 {
		return
	}
	inputs := make([]layout.Input, 0, len(s.rows))
	for _, row := range s.rows {
		inputs = append(inputs, layout.Input{Tensor: &row, Source: safetensors.BF16})
	}
	list, err := layout.Decide(s.cfg, inputs, layout.Options{Scheme: m.Scheme, Format: m.Format, GroupSize: m.GroupSize, MTP: layout.MTPMode(m.MTP), Rest: m.Rest, Lifted: m.Lifted})
	if err != nil {
		s.add("manifest-scheme", quant.ManifestName, "it says %s in %s, which this model cannot be converted to: %v", m.Scheme, m.Format, err)
		return
	}
	told := map[*declaration.Group]bool{}
	for i := range list {
		w, stored := &list[i].Weight, s.byName[list[i].Weight.Tensor.Module]
		said := s.decl.Of(w.Tensor.Module)
		if w.Tensor.Param != "weight" || !w.Quantized() || stored == nil || !stored.form.quantized() || said.Group == nil || told[said.Group] {
			continue
		}
		where := said.Group.Path + " (" + w.Tensor.Module + ")"
		switch {
		case !w.Quant.SameCodes(said.Weights()):
			s.add("manifest-scheme", where, "the config says %s, the manifest %s, which has %s", said.Weights(), m.Scheme, w.Quant)
		case !sameInput(w.Act, said.Input()):
			s.add("manifest-scheme", where, "the config says %s, the manifest %s, which has %s", words(said.Input()), m.Scheme, words(w.Act))
		default:
			continue
		}
		told[said.Group] = true
	}
}

// sameInput leaves out the type of scales where one of two does not say it.
func sameInput(a, b format.Activation) bool {
	if a.Scale == format.AnyScale || b.Scale == format.AnyScale {
		a.Scale, b.Scale = format.AnyScale, format.AnyScale
	}
	return a == b
}

func words(a format.Activation) string {
	if !a.Quantized() {
		return "no quantized activations"
	}
	return a.String() + " activations"
}
