package rotation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// ViewOptions say how a view presents the rotated model. The zero value keeps the
// source's dtypes and makes copies for no layer.
type ViewOptions struct {
	// Wide chooses the tensors that are given in F32: what is rounded later is
	// not rounded to BF16 before.
	Wide func(name string) bool
	// Copies are made of embedding and head for the MTP layer, where it has none.
	Copies bool
	// Matrix asks for rot.weight, where the family's engines have it.
	Matrix bool
	// Name is what the view is called beside the folder; "" is "rotated".
	Name string
	// Cache is how many bytes of weights that are rotated from the left are kept;
	// 0: 1 GiB. The largest one is kept in any case.
	Cache int64
}

// View is the rotated model as a source.Source. It reads the checkpoint that it
// is made of until Close.
type View struct {
	dir    string
	cfg    *glm.Config
	set    *Set
	o      ViewOptions
	rules  *rules
	src    *safetensors.Checkpoint
	folded fold.Files // src under the set's folds
	gains  map[string][]float32
	files  []*safetensors.FilePlan
	made   map[string]*tensor // by name
	index  []byte
	others []source.Entry // files beside the weights
	pinned string

	mu   sync.Mutex
	kept []*whole // the latest last

	buffers sync.Pool // of *buffers
}

// tensor is one of the view and where it comes from.
type tensor struct {
	entry  glm.Entry // its Tensor is the rule's
	change change
	dtype  safetensors.DType
	raw    bool // as it is on disk
	matrix bool // rot.weight

	factored sync.Once
	factors  []float32 // of the columns
}

// NewView opens the checkpoint in dir. It must be one of full precision.
func NewView(dir string, set *Set, o ViewOptions) (v *View, err error) {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	if err := cfg.RequireUnquantized(); err != nil {
		return nil, err
	}
	src, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = src.Close()
		}
	}()
	if o.Cache <= 0 {
		o.Cache = 1 << 30
	}
	v = &View{dir: dir, cfg: cfg, set: set, o: o, rules: newRules(cfg, set), src: src, gains: map[string][]float32{}, made: map[string]*tensor{}}
	v.buffers.New = func() any { return new(buffers) }
	if err := v.fold(); err != nil {
		return nil, err
	}
	model := glm.Survey(cfg, src.Tensors())
	if err := v.readGains(model); err != nil {
		return nil, err
	}
	if err := v.plan(model); err != nil {
		return nil, err
	}
	return v, v.list()
}

// fold moves the set's powers of two.
func (v *View) fold() (err error) {
	if v.folded = v.src; v.set.Folds.Len() > 0 {
		v.folded, err = fold.NewReader(v.cfg, v.src, v.set.Folds)
	}
	return err
}

// Close closes the checkpoint.
func (v *View) Close() error { return v.src.Close() }

// Name implements source.Source.
func (v *View) Name() string {
	if v.o.Name != "" {
		return v.dir + " (" + v.o.Name + ")"
	}
	return v.dir + " (rotated)"
}

// Pinned implements source.Source.
func (v *View) Pinned() (string, bool) { return v.pinned, false }

// readGains reads the norms.
func (v *View) readGains(model *glm.Model) error {
	for i := range model.Entries {
		e := &model.Entries[i]
		c := v.rules.of(e.Tensor)
		if !c.ones {
			continue
		}
		raw := make([]byte, e.Size)
		if err := v.folded.ReadAt(e.Source, e.Offset, raw); err != nil {
			return err
		}
		g := make([]float32, e.Elements())
		if err := layout.DecodeFloats(g, raw, e.Source.DType); err != nil {
			return err
		}
		v.gains[e.Name] = g
	}
	return nil
}

// shard is the size that files of the view are cut at.
const shard = 4 << 30

// plan lays out the files.
func (v *View) plan(model *glm.Model) error {
	var order []string
	put := func(t *tensor) {
		v.made[t.entry.Name] = t
		order = append(order, t.entry.Name)
	}
	roles := map[glm.Role]glm.Entry{}
	for _, e := range model.Entries {
		t := &tensor{entry: e, change: v.rules.of(e.Tensor), dtype: e.Source.DType}
		if !t.change.same() && v.o.Wide != nil && v.o.Wide(e.Name) {
			t.dtype = safetensors.F32
		}
		put(t)
		roles[e.Role] = e
	}
	for _, u := range model.Unexpected {
		put(&tensor{entry: glm.Entry{Tensor: &glm.Tensor{Name: u.Name, Shape: u.Shape}, Source: u, Size: u.Size}, dtype: u.DType, raw: true})
	}
	if model.MTP != nil && v.o.Copies {
		v.copies(model, roles, put)
	}
	if model.MTP != nil && v.o.Matrix && v.cfg.SparseAttention() && v.made[WeightName] == nil {
		h := int64(v.cfg.HiddenSize)
		row := glm.Tensor{Name: WeightName, Module: "rot", Param: "weight", DType: safetensors.BF16, Shape: []int64{h, h}, Layer: -1, Expert: -1}
		put(&tensor{entry: glm.Entry{Tensor: &row}, dtype: safetensors.BF16, matrix: true, change: change{left: []block{{0, v.set.Stream}}}})
	}
	for _, t := range v.made {
		for _, g := range t.change.gains {
			if v.gains[g] == nil {
				return fmt.Errorf("rotation: %s needs the gains of %s, which is not there: %w", t.entry.Name, g, ErrImpossible)
			}
		}
	}
	return v.cut(order)
}

// copies adds the own embedding and head of every MTP layer.
func (v *View) copies(model *glm.Model, roles map[glm.Role]glm.Entry, put func(*tensor)) {
	rows := model.Rows()
	for i := range rows {
		var of glm.Role
		switch rows[i].Role {
		case glm.MTPEmbedding:
			of = glm.Embedding
		case glm.MTPHead:
			of = glm.Head
		default:
			continue
		}
		from, ok := roles[of]
		if !ok || v.made[rows[i].Name] != nil {
			continue
		}
		from.Tensor = &rows[i]
		put(&tensor{entry: from, change: v.rules.of(&rows[i]), dtype: from.Source.DType})
	}
}

// cut lays tensors out in files: those of wide elements first in each.
func (v *View) cut(order []string) error {
	var groups [][]safetensors.Spec
	var size int64
	for _, name := range order {
		t := v.made[name]
		s := safetensors.Spec{Name: name, DType: t.dtype, Shape: t.entry.Shape}
		n := t.entry.Elements() * int64(t.dtype.Bits()) / 8
		if len(groups) == 0 || size+n > shard && size > 0 {
			groups, size = append(groups, nil), 0
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], s)
		size += n
	}
	var entries []safetensors.IndexEntry
	var total int64
	for i, g := range groups {
		slices.SortStableFunc(g, func(a, b safetensors.Spec) int { return b.DType.Bits() - a.DType.Bits() })
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(groups))
		f, err := safetensors.PlanFile(name, g, nil)
		if err != nil {
			return err
		}
		v.files = append(v.files, f)
		for _, t := range f.Tensors() {
			entries = append(entries, safetensors.IndexEntry{Tensor: t.Name, File: name})
			total += t.Size
		}
	}
	var err error
	v.index, err = safetensors.EncodeIndex(entries, total)
	return err
}

const indexName = "model.safetensors.index.json"

// list lists the files beside the weights and names what the view depends on.
func (v *View) list() error {
	folder, err := fsx.OpenDir(v.dir)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	entries, err := folder.ReadDir()
	if err != nil {
		return err
	}
	sum := sha256.New()
	for _, e := range entries {
		st, err := folder.Stat(e.Name())
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() {
			continue
		}
		version := fmt.Sprintf("%+v", fsx.IdentityOf(st))
		_, _ = fmt.Fprintln(sum, e.Name(), version)
		if strings.HasSuffix(e.Name(), ".safetensors") || strings.HasSuffix(e.Name(), ".safetensors.index.json") {
			continue
		}
		v.others = append(v.others, source.Entry{Name: e.Name(), Size: st.Size(), Version: version})
	}
	probe := make([]float32, v.set.Stream.Size())
	probe[0] = 1
	v.set.Stream.Row(probe)
	_, _ = fmt.Fprintln(sum, probe)
	if v.set.Folds.Len() > 0 {
		_, _ = fmt.Fprintln(sum, v.set.Folds.Hash())
	}
	v.pinned = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// List implements source.Source.
func (v *View) List(context.Context) ([]source.Entry, error) {
	out := slices.Clone(v.others)
	for _, f := range v.files {
		out = append(out, source.Entry{Name: f.Name, Size: f.Size, Version: v.pinned})
	}
	return append(out, source.Entry{Name: indexName, Size: int64(len(v.index)), Version: v.pinned}), nil
}

// Open implements source.Source.
func (v *View) Open(ctx context.Context, name string) (source.File, error) {
	for _, f := range v.files {
		if f.Name == name {
			return &file{v, f, sync.OnceValue(f.Header), sync.OnceValue(f.Tensors)}, nil
		}
	}
	b, err := v.ReadSmall(ctx, name, 1<<31)
	if err != nil {
		return nil, err
	}
	return source.Bytes(source.Entry{Name: name, Size: int64(len(b)), Version: v.pinned}, b), nil
}

// ReadSmall implements source.Source.
func (v *View) ReadSmall(_ context.Context, name string, limit int64) ([]byte, error) {
	if name == indexName {
		return v.index, nil
	}
	folder, err := fsx.OpenDir(v.dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	in, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = &fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}
	}
	return b, err
}

// file is a shard of the view.
type file struct {
	v      *View
	f      *safetensors.FilePlan
	header func() []byte

	tensors func() []safetensors.Info // made once
}

func (f *file) Entry() source.Entry {
	return source.Entry{Name: f.f.Name, Size: f.f.Size, Version: f.v.pinned}
}
func (f *file) WillNeed(int64, int64) {}
func (f *file) DontNeed(int64, int64) {}
func (f *file) Close() error          { return nil }

// ReadAt implements source.File: header, then tensor by tensor.
func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	if off < f.f.HeaderSize() {
		n = copy(p, f.header()[off:])
	}
	tensors := f.tensors()
	at, _ := slices.BinarySearchFunc(tensors, off+int64(n)+1, func(t safetensors.Info, off int64) int {
		if t.Offset+t.Size < off {
			return -1
		}
		return 1
	})
	for ; n < len(p) && at < len(tensors); at++ {
		t := tensors[at]
		from := off + int64(n) - t.Offset
		width := min(int64(len(p)-n), t.Size-from)
		if width <= 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return n, err
		}
		if err := f.v.read(f.v.made[t.Name], p[n:n+int(width)], from); err != nil {
			return n, err
		}
		n += int(width)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
