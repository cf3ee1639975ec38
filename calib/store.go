package calib

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// store holds the codes that were found, a file for each layer:
// layer-00003.safetensors with <tensor>.codes U8 and <tensor>.scales, F32 or, as
// stored, U8 (MX, NVFP4), these with <tensor>.global F32 where they have one.
type store struct {
	fs   fsx.FS
	dir  string
	id   string
	meth string

	mu     sync.Mutex
	files  map[int]*safetensors.File
	shapes map[string]shape
}

// shape is what a file does not say of a matrix.
type shape struct {
	layer                  int
	code                   numeric.Code
	rows, cols, rowsB, col int // BlockRows, BlockCols
}

func newStore(fsys fsx.FS, dir, method, id string) *store {
	return &store{fs: fsys, dir: dir, meth: method, id: id, files: map[int]*safetensors.File{}, shapes: map[string]shape{}}
}

func layerFile(l int) string { return fmt.Sprintf("layer-%05d.safetensors", l) }

// put writes the codes of a layer, all or nothing.
func (s *store) put(layer int, names []string, list []*kept) error {
	var specs []safetensors.Spec
	for i, k := range list {
		specs = append(specs, safetensors.Spec{Name: names[i] + ".codes", DType: safetensors.U8, Shape: []int64{int64(k.codes)}})
		if k.local == 0 {
			specs = append(specs, safetensors.Spec{Name: names[i] + ".scales", DType: safetensors.F32, Shape: []int64{int64(k.scales)}})
			continue
		}
		specs = append(specs, safetensors.Spec{Name: names[i] + ".scales", DType: safetensors.U8, Shape: []int64{int64(k.local)}},
			safetensors.Spec{Name: names[i] + ".global", DType: safetensors.F32, Shape: []int64{1}})
	}
	plan, err := safetensors.PlanFile(layerFile(layer), specs, map[string]string{"id": s.id})
	if err != nil {
		return err
	}
	w, err := safetensors.Create(s.fs, s.dir, plan)
	if err != nil {
		return err
	}
	defer func() { _ = w.Abort() }()
	for _, k := range list {
		m, err := k.matrix()
		if err != nil {
			return err
		}
		scales := m.ScaleCodes
		if scales == nil {
			scales = numeric.AppendF32(nil, m.Scales)
		} else {
			scales = numeric.AppendF32(slices.Clip(scales), []float32{m.Global})
		}
		if _, err = w.Write(m.Codes); err == nil {
			_, err = w.Write(scales)
		}
		if err != nil {
			return err
		}
	}
	_, err = w.Commit()
	return err
}

var errOtherCodes = errors.New("holds codes that were learnt from other text or for another plan")

// has reports whether a layer's codes are there.
func (s *store) has(layer int) bool {
	_, err := s.file(layer)
	return err == nil
}

func (s *store) file(layer int) (*safetensors.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[layer]; f != nil {
		return f, nil
	}
	f, err := safetensors.OpenFile(filepath.Join(s.dir, layerFile(layer)))
	if err != nil {
		return nil, err
	}
	if f.Metadata()["id"] != s.id { // learnt from another text, or for another plan
		return nil, errors.Join(fmt.Errorf("%s: %w", filepath.Join(s.dir, layerFile(layer)), errOtherCodes), f.Close())
	}
	s.files[layer] = f
	return f, nil
}

// Close closes the files.
func (s *store) Close() error {
	for _, f := range s.files {
		_ = f.Close()
	}
	return nil
}

// Method implements quant.Codes.
func (s *store) Method() string { return s.meth }

// ID implements quant.Codes.
func (s *store) ID() string { return s.id }

// Rows implements quant.Codes.
func (s *store) Rows(name string, spec numeric.Spec, _ []float32, lo, rows int) (*numeric.Matrix, error) {
	x, ok := s.shapes[name]
	if !ok {
		return nil, nil
	}
	f, err := s.file(x.layer)
	if err != nil {
		return nil, err
	}
	m := &numeric.Matrix{Code: x.code, Rows: rows, Cols: x.cols, BlockRows: x.rowsB, BlockCols: x.col}
	m.Codes = make([]byte, rows*m.RowBytes())
	m.Scales = make([]float32, m.ScaleRows()*m.ScaleCols())
	codes, ok1 := f.Tensor(name + ".codes")
	scales, ok2 := f.Tensor(name + ".scales")
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("%s: no codes of %s", layerFile(x.layer), name)
	}
	if err := f.ReadTensor(codes, int64(lo*m.RowBytes()), m.Codes); err != nil {
		return nil, err
	}
	at := int64(lo / m.BlockRows * m.ScaleCols())
	if spec.Rule == numeric.MX || spec.Rule == numeric.NVFP4 {
		return m, localScales(f, name, &spec, scales, at, m)
	}
	raw := make([]byte, 4*len(m.Scales))
	if err := f.ReadTensor(scales, 4*at, raw); err != nil {
		return nil, err
	}
	numeric.DecodeF32(m.Scales, raw)
	return m, nil
}

// localScales reads scales of a byte from one on. They lie below the global scale
// that they were learnt under.
func localScales(f *safetensors.File, name string, spec *numeric.Spec, t safetensors.Info, at int64, m *numeric.Matrix) error {
	m.ScaleCodes, m.Times = make([]byte, len(m.Scales)), spec.Times
	if err := f.ReadTensor(t, at, m.ScaleCodes); err != nil {
		return err
	}
	global, ok := f.Tensor(name + ".global")
	if !ok {
		return fmt.Errorf("%w: the codes of %s have no global scale", ErrStatistics, name)
	}
	var raw [4]byte
	if err := f.ReadTensor(global, 0, raw[:]); err != nil {
		return err
	}
	if m.Global = math.Float32frombits(binary.LittleEndian.Uint32(raw[:])); spec.Global == 0 {
		spec.Global = m.Global
	}
	if m.Global != spec.Global {
		return fmt.Errorf("%w: the codes of %s were learnt under a global scale of %g, not %g", ErrStatistics, name, m.Global, spec.Global)
	}
	for i, c := range m.ScaleCodes {
		m.Scales[i] = spec.LocalScale(c)
	}
	return nil
}

// idsHash is the SHA-256 of token sequences.
func idsHash(seqs [][]int) string {
	h := sha256.New()
	for _, s := range seqs {
		_ = binary.Write(h, binary.LittleEndian, int64(len(s)))
		for _, id := range s {
			_ = binary.Write(h, binary.LittleEndian, int32(id))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
