package numeric

import "math"

// The leaf loops. Each has one exact definition, free of fused multiply-add
// (products are converted explicitly, which forbids the compiler to fuse), so
// that a vector twin can return the same bits:
//
// Sums over a run of elements go chunk by chunk, chunkLen elements each. Within
// a chunk element i is added to float32 lane i mod 16, in order; then lanes j
// and j+8 are added, j and j+4, j and j+2, j and j+1; the chunk's total is
// added to a float64 in chunk order.
const (
	lanes    = 16
	chunkLen = 256

	absMask = 0x7fffffff
	infBits = 0x7f800000
)

// rounder is 1.5×2^23. Adding it to a float32 of magnitude below 2^22 pushes the
// fraction out under round-half-even and leaves the integer in the low bits.
const (
	rounder     = float32(12582912)
	rounderBits = 0x4b400000
)

// roundSmall rounds to the nearest integer, ties to even, below 2^22.
func roundSmall(f float32) int32 {
	return int32(math.Float32bits(f+rounder)) - rounderBits
}

// roundFinite is RoundBF16 without its care for NaN.
func roundFinite(f float32) float32 {
	u := math.Float32bits(f)
	return math.Float32frombits((u + 0x7fff + u>>16&1) &^ 0xffff)
}

type laneSum [lanes]float32

func (l *laneSum) fold() float64 {
	a, b, c, d := l[0]+l[8], l[1]+l[9], l[2]+l[10], l[3]+l[11]
	e, f, g, h := l[4]+l[12], l[5]+l[13], l[6]+l[14], l[7]+l[15]
	a, b, c, d = a+e, b+f, c+g, d+h
	return float64((a + c) + (b + d))
}

// AbsMax returns max |w|, 0 for no elements, NaN if one is NaN.
func AbsMax(w []float32) float32 { return math.Float32frombits(absMaxBits(w)) }

// absMaxBits returns the bit pattern of the largest magnitude. Patterns of
// magnitudes order as integers do, with infinities and NaN on top.
func absMaxBits(w []float32) uint32 {
	var b, c, d uint32
	a, i := absMaxBitsVector(w)
	for ; i+4 <= len(w); i += 4 {
		v := w[i : i+4 : i+4]
		a = max(a, math.Float32bits(v[0])&absMask)
		b = max(b, math.Float32bits(v[1])&absMask)
		c = max(c, math.Float32bits(v[2])&absMask)
		d = max(d, math.Float32bits(v[3])&absMask)
	}
	for ; i < len(w); i++ {
		a = max(a, math.Float32bits(w[i])&absMask)
	}
	return max(a, b, c, d)
}

// NonFiniteBF16 looks for NaN and infinities in stored bfloat16 values, as far as
// vectors go: of the first done bytes, an even number, it tells whether there is one.
func NonFiniteBF16(raw []byte) (done int, found bool) {
	n := len(raw) / 2 &^ 31
	if !takesBF16(n) {
		return 0, false
	}
	return 2 * n, absMaxBF16(raw[:2*n]) >= infBits
}

// divide is how a weight becomes a quotient to be rounded.
type divide uint8

const (
	byReciprocal  divide = iota // w × float32(1/s): best
	exactQuotient               // w / s in float32: compat of F32 sources
	bf16Quotient                // bf16(w / s): compat of BF16 sources
)

// quotients writes the quotients of one chunk. factor is 1/s for byReciprocal
// and s otherwise.
func quotients(t *[chunkLen]float32, w []float32, by divide, factor float32) {
	switch by {
	case byReciprocal:
		for i, v := range w {
			t[i&(chunkLen-1)] = v * factor
		}
	case exactQuotient:
		for i, v := range w {
			t[i&(chunkLen-1)] = v / factor
		}
	default:
		for i, v := range w {
			t[i&(chunkLen-1)] = roundFinite(v / factor)
		}
	}
}

// runError is what rounding a run of weights cost.
type runError struct {
	sumSq, errSq float64
	maxErr       float32
}

func (r *runError) add(o runError) {
	r.sumSq += o.sumSq
	r.errSq += o.errSq
	r.maxErr = max(r.maxErr, o.maxErr)
}

// measure compares weights with their dequantised values, the first of which
// belongs to lane 0, and adds to the lanes.
func measure(w, deq []float32, sq, er *laneSum) (worst uint32) {
	deq = deq[:len(w)]
	for i, v := range w {
		d := deq[i] - v
		sq[i&(lanes-1)] += float32(v * v)
		er[i&(lanes-1)] += float32(d * d)
		worst = max(worst, math.Float32bits(d)&absMask)
	}
	return worst
}

// encode rounds a run of weights that share the scale s to codes of the given
// format, one byte a code whatever the format, and measures the error against
// float32(code × s).
func encode(dst []byte, w []float32, code Code, by divide, factor, s float32) (sum runError) {
	for lo := encodeRunVector(dst, w, code, by, factor, s, &sum); lo < len(w); lo += chunkLen {
		part := w[lo:min(lo+chunkLen, len(w))]
		out := dst[lo : lo+len(part)]
		var acc sums
		done := encodeChunkVector(out, part, code, by, factor, s, &acc)
		worst := acc.worst()
		if done < len(part) {
			worst = max(worst, encodeRest(out[done:], part[done:], code, by, factor, s, &acc))
		}
		sum.add(runError{acc.squares().fold(), acc.errors().fold(), math.Float32frombits(worst)})
	}
	return sum
}

// encodeRest is what no vector does: at most a chunk, the first element of lane
// 0. It returns the largest error's bits.
func encodeRest(out []byte, w []float32, code Code, by divide, factor, s float32, acc *sums) (worst uint32) {
	var t [chunkLen]float32
	quotients(&t, w, by, factor)
	switch code {
	case E4M3:
		for i := range out {
			b := F32ToE4M3(t[i&(chunkLen-1)])
			out[i] = b
			t[i&(chunkLen-1)] = e4m3[b] * s
		}
	default:
		lo, hi := limits(code)
		roundInts(out, &t, lo, hi, s)
	}
	return measure(w, t[:], acc.squares(), acc.errors())
}

// limits are those of an integer code.
func limits(c Code) (lo, hi float32) {
	if c == Int8 {
		return -128, 127
	}
	return -8, 7
}

// roundInts clamps, rounds half to even, and leaves code × s in t.
func roundInts(out []byte, t *[chunkLen]float32, lo, hi, s float32) {
	for i := range out {
		v := t[i&(chunkLen-1)]
		if v < lo {
			v = lo
		}
		if v > hi {
			v = hi
		}
		q := roundSmall(v)
		out[i] = byte(q)
		t[i&(chunkLen-1)] = float32(q) * s
	}
}

// maxCandidates is how many scales correlate takes at once.
const maxCandidates = 8

// correlate rounds a run to int4 by each of the reciprocals r of scales, at most
// maxCandidates, without keeping the codes q, and writes Σ w·q and Σ q². They
// give the squared error under that scale, Σw² − 2s·Σwq + s²·Σq², and the best
// scale for those codes, Σwq/Σq².
func correlate(w []float32, r []float32, wq, qq *[maxCandidates]float64) {
	*wq, *qq = [maxCandidates]float64{}, [maxCandidates]float64{}
	var out [2 * maxCandidates]float32
	for lo := 0; lo < len(w); lo += chunkLen {
		part := w[lo:min(lo+chunkLen, len(w))]
		if !correlateVector(part, r, &out) {
			for i, f := range r {
				out[2*i], out[2*i+1] = correlateChunk(part, f)
			}
		}
		for i := range r {
			wq[i] += float64(out[2*i])
			qq[i] += float64(out[2*i+1]) // a sum of integers below 2^24
		}
	}
}

func correlateChunk(w []float32, r float32) (wq, qq float32) {
	var sum laneSum
	var squares int32
	for i, v := range w {
		t := v * r
		if t < -8 {
			t = -8
		}
		if t > 7 {
			t = 7
		}
		t = (t + rounder) - rounder
		q := int32(t)
		squares += q * q
		sum[i&(lanes-1)] += float32(v * t)
	}
	return float32(sum.fold()), float32(squares)
}
