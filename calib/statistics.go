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
// the text's tokens.
type Statistics struct {
	Source    string // SourceID of the checkpoint
	Sequences [][]int
	First     int    // number of the first sequence in the whole text
	Text      string // TextID of the whole text, of a part of several
	Moments   map[string]*Moments
	Caches    map[string]*Limits // of keys and values as a cache gets them, by k_proj and v_proj; empty for latents

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
func (s *Statistics) tensors() (out []tensorOut) {
	for name, m := range s.Moments {
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
			tensorOut{spec: safetensors.Spec{Name: base + ".sample", DType: safetensors.BF16, Shape: []int64{int64(len(m.keys)), cols}}, data: numeric.AppendBF16(nil, m.Sample)},
			ints(base+".sample_key", safetensors.I64, 8, keys))
		if m.Lo != nil {
			out = append(out, tensorOut{spec: safetensors.Spec{Name: base + ".in_min", DType: safetensors.F32, Shape: []int64{cols}}, data: numeric.AppendF32(nil, m.Lo)},
				tensorOut{spec: safetensors.Spec{Name: base + ".in_max", DType: safetensors.F32, Shape: []int64{cols}}, data: numeric.AppendF32(nil, m.Hi)})
		}
	}
	return append(out, limitsOut(s.Caches)...)
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
	return writeTensors(fsys, dir, PartName(i, n), append(s.header(), s.tensors()...), s.metadata(i, n))
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

// Read reads the statistics in a folder, all parts together. Errors match
// ErrStatistics where the files are not those of one whole text.
func Read(dir string) (*Statistics, error) {
	if st, err := os.Stat(dir); err == nil && !st.IsDir() {
		return nil, fmt.Errorf("%w: %s is no folder", ErrStatistics, dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var parts []*Statistics
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
		if p.Text != all.Text {
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
	for name, m := range next.Moments {
		if have := s.Moments[name]; have != nil && len(have.sum2) == len(m.sum2) {
			have.merge(m)
		} else {
			s.Moments[name] = m
		}
	}
	for name, l := range next.Caches {
		if have := s.Caches[name]; have != nil && len(have.Lo) == len(l.Lo) {
			have.merge(l)
		} else {
			s.Caches[name] = l
		}
	}
}

// readPart reads one file.
func readPart(path string) (*Statistics, error) {
	f, err := safetensors.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	meta := f.Metadata()
	if meta["schema"] != Schema {
		return nil, fmt.Errorf("%w: schema %q, this version reads %q", ErrStatistics, meta["schema"], Schema)
	}
	s := &Statistics{Source: meta["source"], Text: meta["text"], Moments: map[string]*Moments{}, Caches: map[string]*Limits{}}
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
		base, ok := strings.CutSuffix(t.Name, ".in_sum2")
		if !ok {
			continue
		}
		s.Moments[base+".weight"] = r.moments(base)
	}
	if r.err == nil && idsHash(s.Sequences) != meta["tokens"] {
		r.err = fmt.Errorf("%w: its tokens are not those that it was made with", ErrStatistics)
	}
	return s, r.err
}

// reader reads tensors of a file; the first error stays.
type reader struct {
	f   *safetensors.File
	err error
}

func (r *reader) raw(name string, d safetensors.DType, n int) []byte {
	if r.err != nil {
		return nil
	}
	t, ok := r.f.Tensor(name)
	if !ok || t.DType != d || n >= 0 && t.Elements() != int64(n) {
		r.err = fmt.Errorf("%w: %s is missing or has another form", ErrStatistics, name)
		return nil
	}
	b := make([]byte, t.Size)
	r.err = r.f.ReadTensor(t, 0, b)
	return b
}

func (r *reader) ints(name string, size int) []int64 {
	d := safetensors.I32
	if size == 8 {
		d = safetensors.I64
	}
	b := r.raw(name, d, -1)
	out := make([]int64, len(b)/size)
	for i := range out {
		if size == 8 {
			out[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
		} else {
			out[i] = int64(int32(binary.LittleEndian.Uint32(b[4*i:])))
		}
	}
	return out
}

func (r *reader) floats64(name string, n int) []float64 {
	b := r.raw(name, safetensors.F64, n)
	out := make([]float64, len(b)/8)
	for i := range out {
		if out[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:])); math.IsNaN(out[i]) || math.IsInf(out[i], 0) {
			r.err = fmt.Errorf("%w: %s has values that are not finite", ErrStatistics, name)
		}
	}
	return out
}

// moments reads those of one projection.
func (r *reader) moments(base string) *Moments {
	values := r.floats64(base+".in_sum2", -1)
	n := len(values)
	rests := r.floats64(base+".in_sum2_rest", n)
	top := r.raw(base+".in_absmax", safetensors.F32, n)
	count := r.ints(base+".count", 8)
	keys := r.ints(base+".sample_key", 8)
	sample := r.raw(base+".sample", safetensors.BF16, len(keys)*n)
	if r.err == nil && (len(count) != 1 || count[0] < 0 || len(rests) != n) {
		r.err = fmt.Errorf("%w: %s has another form", ErrStatistics, base)
	}
	if r.err != nil {
		return nil
	}
	m := newMoments(n)
	m.Count = count[0]
	for i, v := range values {
		if v < 0 {
			r.err = fmt.Errorf("%w: a sum of squares of %s is negative", ErrStatistics, base)
			return nil
		}
		m.sum2[i] = sumOf(v, rests[i])
	}
	numeric.DecodeF32(m.AbsMax, top)
	for _, v := range m.AbsMax {
		if !(v >= 0 && v <= math.MaxFloat32) {
			r.err = fmt.Errorf("%w: a largest value of %s is none: %g", ErrStatistics, base, v)
			return nil
		}
	}
	r.ranges(m, base)
	m.Sample = make([]float32, len(keys)*n)
	numeric.DecodeBF16(m.Sample, sample)
	for _, k := range keys {
		m.keys = append(m.keys, uint64(k))
	}
	return m
}
