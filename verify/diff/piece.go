package diff

import (
	"errors"
	"sync"

	"github.com/x448/float16"

	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// piece holds some rows of a weight while they are compared.
type piece struct {
	x, y, z []float32 // of A, of B, what B should be
	raw     []byte    // as stored
	codes   layout.Buffer
	scratch numeric.Scratch
	grid    *gridSums // nil: not asked for, or not for this piece
	off     int64     // values of B that are not A's rounded, where A has codes and B values
	values  []float32 // of grid
	pairs   together  // of grid
}

var pieces = sync.Pool{New: func() any { return new(piece) }}

func room(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

// compare adds rows lo … hi−1 to the totals. Where own has the very codes and
// scales of B, which is what a sound conversion has everywhere, nothing needs to
// be widened: rounding has told its cost. refused says why A cannot be rounded or B
// cannot be read.
func (p *piece) compare(t *totals, a, b *weight, own Rounder, lo, hi int) (refused, err error) {
	if own == nil {
		return p.compareValues(t, a, b, lo, hi)
	}
	rows := hi - lo
	n := rows * a.cols
	widen := func() { p.x, p.y = room(p.x, n), room(p.y, n) }
	var d numeric.Decoder
	if a.floats == nil {
		widen()
		err = a.read(lo, hi, p.x, p)
	} else if p.raw, err = a.floats(lo, hi, p.raw); err == nil {
		d, err = layout.DecoderOf(a.parts[0].DType)
	}
	if err != nil {
		return nil, err
	}
	stored, err := b.codes(lo, hi, &p.codes)
	if err != nil {
		return ofResult(err)
	}
	p.scratch.Below(stored.Global)
	var m *numeric.Matrix
	var cost numeric.Stats
	if a.floats == nil {
		m, cost, err = own.Round(p.x, rows, &p.scratch)
	} else {
		m, cost, err = own.RoundBytes(p.raw, d, rows, &p.scratch)
	}
	if err != nil {
		return err, nil
	}
	if m.Equal(stored) {
		t.addEqual(cost)
		return nil, nil
	}
	widen()
	if a.floats != nil {
		d.Decode(p.x, p.raw)
	}
	p.z = room(p.z, n)
	stored.Dequant(p.y, 0, rows)
	m.Dequant(p.z, 0, rows)
	t.add(p.x, p.y, p.z)
	return nil, nil
}

// ofResult parts what is wrong with one weight of B, beside which others can be
// compared, from all other errors.
func ofResult(err error) (refused, other error) {
	if errors.Is(err, layout.ErrMalformed) || errors.Is(err, layout.ErrForeign) {
		return err, nil
	}
	return nil, err
}

// compareValues adds up how far rows lo to hi of b are from those of a, without a
// word on how they should have been rounded. refused says why B cannot be read.
func (p *piece) compareValues(t *totals, a, b *weight, lo, hi int) (refused, err error) {
	n := (hi - lo) * a.cols
	p.x, p.y = room(p.x, n), room(p.y, n)
	if err := a.read(lo, hi, p.x, p); err != nil {
		return nil, err
	}
	if p.grid != nil && b.codes != nil {
		m, err := b.codes(lo, hi, &p.codes)
		if err != nil {
			return ofResult(err)
		}
		m.Dequant(p.y, 0, hi-lo)
		p.grid.add(p.x, p.y, m, p.values)
	} else if err := b.read(lo, hi, p.y, p); err != nil {
		return ofResult(err)
	}
	if a.codes != nil && b.codes == nil {
		p.off += unrounded(p.x, p.y, b.form.DType)
	}
	t.add(p.x, p.y, nil)
	return nil, nil
}

// unrounded counts the values of y that are not those of x rounded to a type.
func unrounded(x, y []float32, d safetensors.DType) (n int64) {
	for i, v := range x {
		switch d {
		case safetensors.BF16:
			v = numeric.RoundBF16(v)
		case safetensors.F16:
			v = float16.Fromfloat32(v).Float32()
		}
		if v != y[i] {
			n++
		}
	}
	return n
}
