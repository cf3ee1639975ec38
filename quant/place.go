package quant

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// place gives every output its file and offset. Layouts that keep the source's
// shards put an item where its source is; others fill shards up to the size
// asked for. A stacked tensor and its parts stay in one shard either way.
func (p *Plan) place() error {
	var groups [][]int
	var names []string
	if p.lay.ShardName(1, 1) != "" {
		groups = p.cut()
		for i := range groups {
			names = append(names, p.lay.ShardName(i+1, len(groups)))
		}
	} else {
		byFile := map[string][]int{}
		for i := range p.Items {
			if it := &p.Items[i]; it.Action != Drop {
				byFile[it.Source.File] = append(byFile[it.Source.File], i)
			}
		}
		names = slices.Sorted(maps.Keys(byFile))
		for _, n := range names {
			g := byFile[n]
			slices.SortStableFunc(g, func(a, b int) int {
				return cmp.Compare(p.Items[a].Source.Offset+p.Items[a].Offset, p.Items[b].Source.Offset+p.Items[b].Offset)
			})
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return fail(ErrSource, "", "nothing is left to write")
	}
	p.Files = make([]File, len(groups))
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0))
	errs := make([]error, len(groups)) // the first in order is the one to report
	for i, g := range groups {
		work.Go(func() error {
			errs[i] = p.layFile(i, names[i], g)
			return nil
		})
	}
	_ = work.Wait()
	return cmp.Or(errs...)
}

// maxPointer is more than the bytes of a Git LFS pointer.
const maxPointer = 256

// sidecars lists the other regular files of the source: tokenizer, templates,
// generation and preprocessor configs, licences.
func sidecars(dir string, p *Plan) ([]Sidecar, error) {
	from, err := fsx.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	entries, err := from.ReadDir()
	if err != nil {
		return nil, err
	}
	var out []Sidecar
	for _, e := range entries {
		name := e.Name()
		_, ours := p.Configs[name]
		switch {
		case ours, strings.HasSuffix(name, ".safetensors"), strings.HasSuffix(name, ".safetensors.index.json"),
			layout.IsConfigFile(name), slices.Contains(declaration.Files, name), name == ManifestName, name == fsx.StateDir,
			fsx.IsTemp(name), strings.HasPrefix(name, ".git"):
			continue
		}
		if name == "recipe.yaml" && len(p.stored) > 0 {
			continue // of the tool that quantized the source
		}
		if p.notCopied(name) {
			continue
		}
		st, err := from.Stat(name)
		if err != nil {
			return nil, err
		}
		if !st.Mode().IsRegular() {
			kind := "no regular file"
			if st.IsDir() {
				kind = "a folder of the source"
			}
			p.Notes = append(p.Notes, fmt.Sprintf("%s is %s and is not copied", name, kind))
			continue
		}
		if over := len(filepath.Base(fsx.TempName(name))) - fsx.MaxName; over > 0 {
			return nil, fail(ErrSource, "give the file a shorter name",
				"the name of %s is %d bytes too long: files are written under a temporary name first, and file systems end at %d bytes", name, over, fsx.MaxName)
		}
		if st.Size() < maxPointer {
			if raw, err := from.ReadFile(name, maxPointer); err == nil && origin.IsPointer(raw) {
				return nil, fail(ErrSource, "run git lfs pull in the folder, or download it with hf or modelscope",
					"%s: a Git LFS pointer, not the file itself: the repository was cloned without LFS", name)
			}
		}
		out = append(out, Sidecar{Name: name, Size: st.Size()})
	}
	return out, nil
}

// fingerprint hashes all that decides a byte of the result: the source's
// headers and sizes, its config, the choices, and the output's headers.
func (p *Plan) fingerprint(files []safetensors.FileInfo) string {
	h := sha256.New()
	put := func(v any) {
		b, _ := json.Marshal(v) // strings and integers
		h.Write(b)
	}
	put([]string{"glmconv plan 1", string(p.Scheme), string(p.Format), string(p.Options.MTP)})
	put([]int{int(p.Options.Arith), p.Options.GroupSize})
	if p.Options.Rest != "" {
		put(p.Options.Rest)
	}
	if p.Options.Inputs != nil {
		put(p.Options.Inputs)
	}
	for _, f := range files {
		put([]any{f.Name, f.Size})
	}
	var line []byte
	for i := range p.Items {
		it := &p.Items[i]
		line = strconv.AppendQuote(line[:0], it.Name())
		line = append(append(line, ' '), it.Action...)
		line = appendQuant(line, &it.Weight)
		line = strconv.AppendQuote(append(line, ' '), it.Source.Name)
		line = strconv.AppendQuote(append(line, ' '), it.Source.File)
		line = appendInts(line, it.Source.Offset, it.Offset)
		line = append(append(line, ' '), it.Source.DType.String()...)
		if it.Stored != nil {
			line = appendStored(line, it.Stored)
		}
		line = append(line, '\n')
		h.Write(line)
	}
	for i := range p.Items {
		if it := &p.Items[i]; it.Action == Make {
			putBytes(h, it.Data)
		}
	}
	for _, f := range p.Files {
		putBytes(h, f.Plan.Header())
	}
	for _, name := range slices.Sorted(maps.Keys(p.Configs)) {
		t := p.Configs[name]
		fmt.Fprintf(h, "%d:", t.Size)
		t.each(func(piece []byte) { h.Write(piece) })
	}
	for _, s := range p.Sidecars {
		put([]any{s.Name, s.Size})
	}
	if set := p.moved(); set != nil {
		put([]string{"folds", set.Hash()})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// quantNumbers are what the fingerprints of all versions have for what a weight
// is quantized to, the group aside.
var quantNumbers = map[format.Weight]int64{
	format.Float8: 2, format.Float8Block: 3, format.Int8: 4, format.Int4(0): 5,
	format.Int4(0).Packed(format.Words): 6, format.Int4(0).Packed(format.RowPairs): 7,
}

// appendQuant appends what becomes of a weight.
func appendQuant(b []byte, w *layout.Weight) []byte {
	q := w.Quant
	switch {
	case w.Widened():
		return append(b, " 1 0"...)
	case !q.Quantized():
		return append(b, " 0 0"...)
	}
	if w.Act.When == format.Static {
		return fmt.Appendf(b, " %+v %+v", q, w.Input)
	}
	key := q.Codes().Packed(q.Packing)
	if q.Strategy == format.Group {
		key.Strategy, key.Group = format.Channel, 0
	}
	if n, ok := quantNumbers[key]; ok {
		return appendInts(b, n, int64(q.Group))
	}
	return fmt.Appendf(b, " %+v", q)
}

// appendStored appends how a quantized source has a weight.
func appendStored(b []byte, s *layout.Stored) []byte {
	b = fmt.Appendf(b, " %s %+v", s.Format, s.Quant)
	for _, t := range s.Parts() {
		b = strconv.AppendQuote(append(b, ' '), t.Name)
		b = strconv.AppendQuote(append(b, ' '), t.File)
		b = appendInts(b, t.Offset, t.Size)
	}
	return b
}

// hashOf is the SHA-256 of some texts.
func hashOf(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		putBytes(h, []byte(t))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func appendInts(b []byte, list ...int64) []byte {
	for _, n := range list {
		b = strconv.AppendInt(append(b, ' '), n, 10)
	}
	return b
}

func putBytes(h hash.Hash, b []byte) {
	fmt.Fprintf(h, "%d:", len(b))
	h.Write(b)
}
