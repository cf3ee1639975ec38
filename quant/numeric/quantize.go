package numeric

import (
	"fmt"
	"math"
)

// NonFiniteError reports a NaN or infinity in a source weight.
type NonFiniteError struct {
	Row, Col int // within the rows given to Quantize
	Value    float32
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("weight [%d, %d] is %v", e.Row, e.Col, e.Value)
}

// Scratch holds buffers that Quantize reuses between tiles. The zero value is
// ready; it must not be shared between goroutines.
type Scratch struct {
	codes  []byte
	trial  []byte
	m      Matrix
	colMax []float32
}

// Quantize quantises rows of a weight: src is [rows, cols] row-major. For
// block scales (BlockRows > 1) the rows must start at a multiple of BlockRows
// in the weight. The result does not depend on how a weight is cut into such
// tiles. The Matrix returned is valid until the next call with the same
// scratch; without scratch it is the caller's.
//
// A NaN or infinity is refused with a *NonFiniteError.
func Quantize(spec Spec, src []float32, rows, cols int, scratch *Scratch) (*Matrix, Stats, error) {
	if rows < 0 || cols <= 0 || len(src) < rows*cols {
		return nil, Stats{}, fmt.Errorf("numeric: %d values are not [%d, %d]", len(src), rows, cols)
	}
	src = src[:rows*cols]
	if i := FirstNonFinite(src); i >= 0 {
		return nil, Stats{}, &NonFiniteError{Row: i / cols, Col: i % cols, Value: src[i]}
	}
	if scratch == nil {
		scratch = &Scratch{}
	}
	bc := spec.BlockCols
	if bc == 0 {
		bc = cols
	}
	m := &scratch.m
	*m = Matrix{Code: spec.Code, Rows: rows, Cols: cols, BlockRows: max(spec.BlockRows, 1), BlockCols: bc, Codes: m.Codes[:0], Scales: m.Scales[:0]}
	scratch.codes = resize(scratch.codes, rows*cols)
	var st Stats
	st.Elements = int64(rows) * int64(cols)
	switch {
	case m.BlockRows > 1:
		quantizeBlocks(spec, m, src, scratch, &st)
	case spec.Rule == Ascend && spec.Code == Int4 && spec.Arith == Compat:
		ssz(m, src, scratch.codes)
	case spec.FP8Scales && spec.Arith == Best:
		quantizeFP8Scaled(spec, m, src, scratch)
	default:
		quantizeGroups(spec, m, src, scratch, &st)
	}
	if m.Code == Int4 {
		m.Codes = PackNibbles(m.Codes, scratch.codes, cols)
	} else {
		m.Codes = append(m.Codes, scratch.codes...)
	}
	measure(spec, m, src, scratch.codes, &st)
	return m, st, nil
}

func resize(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// quantizeGroups handles channel and group scales.
func quantizeGroups(spec Spec, m *Matrix, src []float32, scratch *Scratch, st *Stats) {
	for at := 0; at < len(src); at += m.Cols {
		for c := 0; c < m.Cols; c += m.BlockCols {
			x := src[at+c : at+min(c+m.BlockCols, m.Cols)]
			q := scratch.codes[at+c:][:len(x)]
			s := plainScale(spec, absMax(x))
			if spec.Code == Int4 && spec.Arith == Best {
				st.PlainSq += squaredError4(x, s)
				s = searchInt4(spec, x, s)
			}
			s = settle(spec, s, x, func(s float32) float64 {
				encode(spec, x, s, q)
				return squaredError(spec.Code, x, q, s)
			})
			m.Scales = append(m.Scales, s)
			encode(spec, x, s, q)
		}
	}
}

// settle decides the rare case in which exact quotients gain nothing over the
// reference's rounded ones: under some scales (powers of two, 33/32, …) both
// give the same codes, as a probe of the first elements tells. Then other BF16
// scales nearby are tried as well.
func settle(spec Spec, s float32, probe []float32, sumErr func(s float32) float64) float32 {
	if spec.Rule != CompressedTensors || spec.Arith != Best || spec.Code == Int4 || !roundingIsHarmless(spec.Code, probe[:min(len(probe), 256)], s) {
		return s
	}
	best, bestErr := s, sumErr(s)
	b := F32ToBF16(s)
	steps := []int{-2, -1, 1, 2}
	for d := 8; spec.Code == E4M3 && d < 128; d += 8 {
		steps = append(steps, d) // a float grid repeats every octave: walk up one
	}
	for _, d := range steps {
		t := BF16ToF32(uint16(int(b) + d))
		if e := sumErr(t); e < bestErr {
			best, bestErr = t, e
		}
	}
	return best
}

// roundingIsHarmless reports whether BF16 and F32 quotients give x the same
// codes.
func roundingIsHarmless(c Code, x []float32, s float32) bool {
	for _, v := range x {
		t := v / s
		if c == E4M3 && F32ToE4M3(t) != F32ToE4M3(RoundBF16(t)) || c == Int8 && roundEven(t) != roundEven(RoundBF16(t)) {
			return false
		}
	}
	return true
}

// squaredError is Σ (w − s·code)² in float64, in index order.
func squaredError(c Code, x []float32, q []byte, s float32) float64 {
	var sum float64
	for i, v := range x {
		d := float64(value(c, q[i])*s) - float64(v)
		sum += d * d
	}
	return sum
}

// quantizeBlocks handles two-dimensional blocks (FP8 128×128).
func quantizeBlocks(spec Spec, m *Matrix, src []float32, scratch *Scratch, _ *Stats) {
	for r0 := 0; r0 < m.Rows; r0 += m.BlockRows {
		r1 := min(r0+m.BlockRows, m.Rows)
		for c0 := 0; c0 < m.Cols; c0 += m.BlockCols {
			c1 := min(c0+m.BlockCols, m.Cols)
			var amax float32
			for r := r0; r < r1; r++ {
				amax = max(amax, absMax(src[r*m.Cols+c0:r*m.Cols+c1]))
			}
			s := settle(spec, plainScale(spec, amax), src[r0*m.Cols+c0:r0*m.Cols+c1], func(s float32) (sum float64) {
				for r := r0; r < r1; r++ {
					x, q := src[r*m.Cols+c0:r*m.Cols+c1], scratch.codes[r*m.Cols+c0:]
					encode(spec, x, s, q)
					sum += squaredError(spec.Code, x, q, s)
				}
				return sum
			})
			m.Scales = append(m.Scales, s)
			for r := r0; r < r1; r++ {
				encode(spec, src[r*m.Cols+c0:r*m.Cols+c1], s, scratch.codes[r*m.Cols+c0:])
			}
		}
	}
}

func absMax(x []float32) float32 {
	var hi uint32
	for _, v := range x {
		hi = max(hi, math.Float32bits(v)&0x7fffffff) // finite values order like integers
	}
	return math.Float32frombits(hi)
}

// plainScale is the scale of absmax rounding, as the layout stores it.
func plainScale(spec Spec, amax float32) float32 {
	switch spec.Rule {
	case DeepSeekBlock:
		return max(amax, 1e-4) / E4M3Max
	case Ascend:
		div, floor := float32(127), float32(0x1p-23)
		if spec.Code == Int4 {
			return max(amax/7, floor)
		}
		return RoundBF16(max(amax/div, floor))
	default: // CompressedTensors
		s := RoundBF16(amax / fullScale(spec.Code))
		if s == 0 {
			s = 0x1p-7 // the eps of bfloat16
		}
		return s
	}
}

// fullScale is half the code range of compressed-tensors' calculate_range.
func fullScale(c Code) float32 {
	switch c {
	case E4M3:
		return E4M3Max
	case Int8:
		return 127.5
	default:
		return 7.5
	}
}

// encode writes one code a value (int4 as a two's complement byte).
func encode(spec Spec, x []float32, s float32, q []byte) {
	q = q[:len(x)]
	compat := spec.Arith == Compat && spec.Rule != DeepSeekBlock
	switch {
	case spec.Code == E4M3 && spec.Arith == Compat && !compat:
		k := E4M3Max / (s * E4M3Max) // DeepGEMM multiplies by the rounded reciprocal
		for i, v := range x {
			q[i] = F32ToE4M3(v * k)
		}
	case spec.Code == E4M3:
		for i, v := range x {
			t := v / s
			if compat {
				t = RoundBF16(t)
			}
			q[i] = F32ToE4M3(t)
		}
	default:
		lo, hi := float32(-128), float32(127)
		if spec.Code == Int4 {
			lo, hi = -8, 7
		}
		for i, v := range x {
			t := v / s
			if compat {
				t = RoundBF16(t)
			}
			q[i] = byte(int8(roundEven(min(max(t, lo), hi))))
		}
	}
}

// measure adds the errors of the finished tile to st. Sums run in row order.
func measure(spec Spec, m *Matrix, src []float32, codes []byte, st *Stats) {
	sc := m.ScaleCols()
	searched := st.PlainSq != 0
	for r := range m.Rows {
		scales := m.Scales[r/m.BlockRows*sc:][:sc]
		for g, s := range scales {
			lo, hi := r*m.Cols+g*m.BlockCols, r*m.Cols+min((g+1)*m.BlockCols, m.Cols)
			for i := lo; i < hi; i++ {
				v := float64(src[i])
				d := float64(value(spec.Code, codes[i])*s) - v
				st.SumSq += v * v
				st.SumErrSq += d * d
				st.MaxErr = max(st.MaxErr, math.Abs(d))
			}
		}
	}
	if !searched {
		st.PlainSq = st.SumErrSq
	}
}

// value is the number that a code stands for, before its scale.
func value(c Code, b byte) float32 {
	if c == E4M3 {
		return e4m3[b]
	}
	return float32(int8(b))
}
