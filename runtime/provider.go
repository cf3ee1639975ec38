package runtime

import (
	"fmt"
	"sync"

	"github.com/glmconv/glmconv/glm"
)

// Provider is how blocks get at weights. There is one forward pass and two
// ways to hold what it needs: Resident keeps everything in memory, Streaming
// reads each tile when a block asks for it and forgets it afterwards. Since an
// output element depends on one weight row only, tiles change no result.
//
// A Provider is safe for concurrent use.
type Provider interface {
	// Has reports whether the checkpoint holds the tensor in any form.
	Has(t *glm.Tensor) bool
	// Tile returns rows of a 2-D weight from row lo on, at least one. The
	// caller hands it back with Release when it is done.
	Tile(t *glm.Tensor, lo int) (*Weight, error)
	Release(w *Weight)
	// Gather copies rows of an unquantised 2-D weight, widened, to dst
	// [len(rows), cols].
	Gather(dst []float32, t *glm.Tensor, rows []int) error
	// Vector returns a 1-D tensor widened to float32. It is shared: read only.
	Vector(t *glm.Tensor) ([]float32, error)
	// Missing are required tensors that the checkpoint does not hold.
	Missing() []glm.Tensor
}

func shapeReason(rows, cols, wantRows, wantCols int) string {
	return fmt.Sprintf("stored as [%d, %d], config.json asks for [%d, %d]", rows, cols, wantRows, wantCols)
}

// vectors keeps 1-D tensors: they are small even in the largest models.
type vectors struct {
	mu sync.Mutex
	m  map[string][]float32
}

func (v *vectors) get(l *loader, t *glm.Tensor) ([]float32, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if x, ok := v.m[t.Name]; ok {
		return x, nil
	}
	x, err := l.vector(t)
	if err == nil {
		if v.m == nil {
			v.m = map[string][]float32{}
		}
		v.m[t.Name] = x
	}
	return x, err
}

func gather(dst []float32, rows []int, cols int, row func(int) (*Weight, error)) error {
	for i, r := range rows {
		w, err := row(r)
		if err != nil {
			return err
		}
		if w.Quant != nil {
			w.Quant.Dequant(dst[i*cols:][:cols], 0, 1)
			continue
		}
		w.Type.Decode(dst[i*cols:][:cols], w.Data)
	}
	return nil
}

// Resident is a Provider that keeps every weight it has read.
type Resident struct {
	l   *loader
	vec vectors
	mu  sync.Mutex
	m   map[string]*Weight
}

// NewResident returns a Provider that reads a weight once and keeps it.
func NewResident(cfg *glm.Config, src Source) (*Resident, error) {
	l, err := newLoader(cfg, src)
	return &Resident{l: l, m: map[string]*Weight{}}, err
}

// WeightsOnly makes products with unquantized inputs, whatever the checkpoint
// declares: what the weights alone change. It is called before the first
// product.
func (p *Resident) WeightsOnly() { p.l.weightsOnly = true }

// Has implements Provider.
func (p *Resident) Has(t *glm.Tensor) bool { return p.l.has(t) }

// Missing implements Provider.
func (p *Resident) Missing() []glm.Tensor { return p.l.missing }

// Vector implements Provider.
func (p *Resident) Vector(t *glm.Tensor) ([]float32, error) { return p.vec.get(p.l, t) }

// Tile implements Provider: the whole weight from row 0, which is the only lo
// that callers who advance by Weight.Rows ever ask for.
func (p *Resident) Tile(t *glm.Tensor, lo int) (*Weight, error) {
	if lo != 0 {
		return p.l.rows(t, lo, int(t.Shape[0]))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.m[t.Name]; w != nil {
		return w, nil
	}
	w, err := p.l.rows(t, 0, int(t.Shape[0]))
	if err == nil {
		p.m[t.Name] = w
	}
	return w, err
}

// Release implements Provider; the weight stays.
func (p *Resident) Release(*Weight) {}

// Gather implements Provider.
func (p *Resident) Gather(dst []float32, t *glm.Tensor, rows []int) error {
	w, err := p.Tile(t, 0)
	if err != nil {
		return err
	}
	cols := w.Cols
	for i, r := range rows {
		if w.Quant != nil {
			w.Quant.Dequant(dst[i*cols:][:cols], r, r+1)
			continue
		}
		size := w.Type.Size()
		w.Type.Decode(dst[i*cols:][:cols], w.Data[r*cols*size:])
	}
	return nil
}

// Bytes returns the memory that the weights read so far take.
func (p *Resident) Bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for _, w := range p.m {
		n += w.Bytes()
	}
	return n
}
