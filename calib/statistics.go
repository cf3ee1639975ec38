package calib

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Schema names the form of statistics files.
const Schema = "glmconv.calib/1"

// ErrStatistics is matched by errors about statistics that cannot be used: of
// another source, damaged, with parts that overlap or are missing.
var ErrStatistics = errors.New("unsuitable statistics")

// Statistics are moments of the inputs of a model's projections on a text, and
// the text's tokens. Moments of Read stay in the files until they are asked for.
type Statistics struct {
	Source    string // SourceID of the checkpoint
	Sequences [][]int
	First     int                // number of the first sequence in the whole text
	Text      string             // TextID of the whole text, of a part of several
	Caches    map[string]*Limits // of keys and values as a cache gets them, by k_proj and v_proj; empty for latents

	held  map[string]*Moments // by tensor; nil if files hold them
	files []*safetensors.File // of the parts, in order

	once   sync.Once
	places map[place]*glm.Tensor
}

// Tokens returns the number of tokens.
func (s *Statistics) Tokens() (n int) {
	for _, q := range s.Sequences {
		n += len(q)
	}
	return n
}

// ID changes with the source and the tokens.
func (s *Statistics) ID() string { return hashText(s.Source + "\n" + idsHash(s.Sequences)) }

// SourceID identifies a checkpoint by config.json and the headers of its files,
// and a tokenizer by its file.
func SourceID(src *safetensors.Checkpoint) (string, error) {
	var b strings.Builder
	for _, name := range []string{"config.json", "tokenizer.json"} {
		raw, err := fsx.ReadIn(src.Dir(), name, fsx.MaxText)
		if err != nil && (name == "config.json" || !errors.Is(err, os.ErrNotExist)) {
			return "", err
		}
		fmt.Fprintf(&b, "%s %s\n", name, hashText(string(raw)))
	}
	list := src.Tensors()
	slices.SortFunc(list, func(x, y safetensors.Info) int { return strings.Compare(x.Name, y.Name) })
	for _, t := range list {
		fmt.Fprintf(&b, "%q %s %v %s %d\n", t.Name, t.DType, t.Shape, t.File, t.Offset)
	}
	return hashText(b.String()), nil
}

// PartName is the name of a part's file.
func PartName(i, n int) string { return fmt.Sprintf("calib-%05d-of-%05d.safetensors", i, n) }

var partName = lazy.Regexp(`^calib-(\d{5})-of-(\d{5})\.safetensors$`)

// tensorOut is a tensor of a statistics file.
type tensorOut struct {
	spec safetensors.Spec
	data []byte
	from *safetensors.File // in place of data
}

func floats64(name string, v []float64) tensorOut {
	b := make([]byte, 0, 8*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	}
	return tensorOut{spec: safetensors.Spec{Name: name, DType: safetensors.F64, Shape: []int64{int64(len(v))}}, data: b}
}

func ints(name string, d safetensors.DType, size int, v []int64) tensorOut {
	var b []byte
	for _, x := range v {
		if size == 8 {
			b = binary.LittleEndian.AppendUint64(b, uint64(x))
		} else {
			b = binary.LittleEndian.AppendUint32(b, uint32(x))
		}
	}
	return tensorOut{spec: safetensors.Spec{Name: name, DType: d, Shape: []int64{int64(len(v))}}, data: b}
}

// header are the tensors that hold the text.
func (s *Statistics) header() []tensorOut {
	var ids, lengths []int64
	for _, q := range s.Sequences {
		lengths = append(lengths, int64(len(q)))
		for _, id := range q {
			ids = append(ids, int64(id))
		}
	}
	return []tensorOut{ints("tokens", safetensors.I32, 4, ids), ints("lengths", safetensors.I32, 4, lengths)}
}

// tensors are those of the moments and limits.
func (s *Statistics) tensors() (out []tensorOut, err error) {
	for _, name := range s.Names() {
		m, err := s.Moments(name)
		if err != nil {
			return nil, err
		}
		base := strings.TrimSuffix(name, ".weight")
		values, rests, keys := make([]float64, len(m.sum2)), make([]float64, len(m.sum2)), make([]int64, len(m.keys))
		for k, f := range m.sum2 {
			values[k], rests[k] = f.float()
		}
		for k, v := range m.keys {
			keys[k] = int64(v)
		}
		cols := int64(len(m.sum2))
		out = append(out, floats64(base+".in_sum2", values), floats64(base+".in_sum2_rest", rests),
			tensorOut{spec: safetensors.Spec{Name: base + ".in_absmax", DType: safetensors.F32, Shape: []int64{cols}}, data: numeric.AppendF32(nil, m.AbsMax)},
			ints(base+".count", safetensors.I64, 8, []int64{m.Count}),
			tensorOut{spec: safetensors.Spec{Name: base + ".sample", DType: safetensors.BF16, Shape: []int64{int64(len(m.keys)), cols}}, data: numeric.AppendBF16(nil, m.Sample())},
			ints(base+".sample_key", safetensors.I64, 8, keys))
		if m.Lo != nil {
			out = append(out, tensorOut{spec: safetensors.Spec{Name: base + ".in_min", DType: safetensors.F32, Shape: []int64{cols}}, data: numeric.AppendF32(nil, m.Lo)},
				tensorOut{spec: safetensors.Spec{Name: base + ".in_max", DType: safetensors.F32, Shape: []int64{cols}}, data: numeric.AppendF32(nil, m.Hi)})
		}
	}
	return append(out, limitsOut(s.Caches)...), nil
}

// metadata is that of part i of n.
func (s *Statistics) metadata(i, n int) map[string]string {
	m := map[string]string{"schema": Schema, "source": s.Source, "tokens": idsHash(s.Sequences),
		"first": strconv.Itoa(s.First), "part": strconv.Itoa(i), "parts": strconv.Itoa(n)}
	if s.Text != "" && n > 1 {
		m["text"] = s.Text
	}
	return m
}

// Write writes part i of n into a folder, all or nothing.
func (s *Statistics) Write(fsys fsx.FS, dir string, i, n int) error {
	list, err := s.tensors()
	if err != nil {
		return err
	}
	return writeTensors(fsys, dir, PartName(i, n), append(s.header(), list...), s.metadata(i, n))
}

// writeTensors writes a file of tensors, wide elements first, so that all are
// aligned, and of one width by name.
func writeTensors(fsys fsx.FS, dir, name string, out []tensorOut, meta map[string]string) error {
	slices.SortFunc(out, func(a, b tensorOut) int {
		return cmp.Or(b.spec.DType.Bits()-a.spec.DType.Bits(), strings.Compare(a.spec.Name, b.spec.Name))
	})
	specs := make([]safetensors.Spec, len(out))
	for k, t := range out {
		specs[k] = t.spec
	}
	plan, err := safetensors.PlanFile(name, specs, meta)
	if err != nil {
		return err
	}
	w, err := safetensors.Create(fsys, dir, plan)
	if err != nil {
		return err
	}
	defer func() { _ = w.Abort() }()
	for _, t := range out {
		if err := t.write(w); err != nil {
			return err
		}
	}
	_, err = w.Commit()
	return err
}

// write writes the bytes, or copies them.
func (t *tensorOut) write(w io.Writer) error {
	if t.from == nil {
		_, err := w.Write(t.data)
		return err
	}
	info, ok := t.from.Tensor(t.spec.Name)
	if !ok {
		return fmt.Errorf("%w: %s is gone", ErrStatistics, t.spec.Name)
	}
	buf := make([]byte, min(info.Size, 1<<20))
	for at := int64(0); at < info.Size; at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), info.Size-at)]
		if err := t.from.ReadTensor(info, at, part); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// Read opens the statistics in a folder, all parts together; Close closes their
// files. Errors match ErrStatistics where the files are not those of one whole text.
func Read(dir string) (_ *Statistics, err error) {
	if st, err := os.Stat(dir); err == nil && !st.IsDir() {
		return nil, fmt.Errorf("%w: %s is no folder", ErrStatistics, dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var parts []*Statistics
	defer func() {
		if err != nil {
			for _, p := range parts {
				_ = p.Close()
			}
		}
	}()
	total := 0
	for _, e := range entries {
		m := partName().FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		n, _ := strconv.Atoi(m[2])
		if total != 0 && n != total {
			return nil, fmt.Errorf("%w: %s holds parts of %d and of %d", ErrStatistics, dir, total, n)
		}
		total = n
		p, err := readPart(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
		parts = append(parts, p)
	}
	if total == 0 {
		return nil, fmt.Errorf("%w: %s holds no calib-*.safetensors", ErrStatistics, dir)
	}
	if len(parts) < total {
		return nil, fmt.Errorf("%w: %s holds %d of %d parts", ErrStatistics, dir, len(parts), total)
	}
	all := parts[0]
	for _, p := range parts[1:] {
		if p.Source != all.Source {
			return nil, fmt.Errorf("%w: the parts in %s are of different sources", ErrStatistics, dir)
		}
		if p.Text != all.Text && p.Text != "" && all.Text != "" {
			return nil, fmt.Errorf("%w: the parts in %s are of different texts", ErrStatistics, dir)
		}
		if p.First != all.First+len(all.Sequences) {
			return nil, fmt.Errorf("%w: the parts in %s overlap or leave a gap: one ends before sequence %d, the next begins with %d", ErrStatistics, dir, all.First+len(all.Sequences), p.First)
		}
		all.join(p)
	}
	return all, nil
}

// join adds the statistics of the sequences that follow.
func (s *Statistics) join(next *Statistics) {
	s.Sequences = append(s.Sequences, next.Sequences...)
	s.files = append(s.files, next.files...)
	for name, m := range next.held {
		s.held[name] = joined(s.held[name], m)
	}
	for name, l := range next.Caches {
		if have := s.Caches[name]; have != nil && len(have.Lo) == len(l.Lo) {
			have.merge(l)
		} else {
			s.Caches[name] = l
		}
	}
}

// readPart opens one file and looks at all that is in it but values of samples.
func readPart(path string) (_ *Statistics, err error) {
	f, err := safetensors.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	meta := f.Metadata()
	if meta["schema"] != Schema {
		return nil, fmt.Errorf("%w: schema %q, this version reads %q", ErrStatistics, meta["schema"], Schema)
	}
	s := &Statistics{Source: meta["source"], Text: meta["text"], Caches: map[string]*Limits{}, files: []*safetensors.File{f}}
	if s.First, err = strconv.Atoi(meta["first"]); err != nil || s.First < 0 {
		return nil, fmt.Errorf("%w: it does not say which sequences it is of", ErrStatistics)
	}
	r := &reader{f: f}
	ids, lengths := r.ints("tokens", 4), r.ints("lengths", 4)
	for _, n := range lengths {
		if n <= 0 || n > int64(len(ids)) {
			return nil, fmt.Errorf("%w: lengths of sequences and tokens do not agree", ErrStatistics)
		}
		q := make([]int, n)
		for i := range q {
			if q[i] = int(ids[i]); q[i] < 0 {
				return nil, fmt.Errorf("%w: token %d is none", ErrStatistics, q[i])
			}
		}
		s.Sequences, ids = append(s.Sequences, q), ids[n:]
	}
	for _, t := range f.Tensors() {
		if module, ok := strings.CutSuffix(t.Name, ".cache_min"); ok {
			s.Caches[module] = r.limits(module)
		}
		if base, ok := strings.CutSuffix(t.Name, momentsSuffix); ok {
			r.moments(base, false)
		}
	}
	if r.err == nil && idsHash(s.Sequences) != meta["tokens"] {
		r.err = fmt.Errorf("%w: its tokens are not those that it was made with", ErrStatistics)
	}
	return s, r.err
}
