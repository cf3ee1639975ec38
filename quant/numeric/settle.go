package numeric

import "math"

// settle keeps the absmax scale k of an FP8 or INT8 block, except in the rare
// case in which exact quotients gain nothing over the reference tool's rounded
// ones: under some scales (powers of two, 33/32, …) both give the same codes, as
// a probe of the first elements tells. Then the first BF16 scale nearby that has
// a smaller error is taken, so that the best arithmetic stays the better one. It
// returns the weights as they are after that.
func (x *Scratch) settle(k blockScale, w span) (blockScale, span) {
	s := &x.spec
	if s.Rule != CompressedTensors || s.Arith != Best || s.Code == Int4 {
		return k, w
	}
	if !x.harmless(w.head(x, min(w.len(), 2*chunkLen)), k) {
		return k, w
	}
	var all []float32
	below := func(k blockScale, limit float64) float64 {
		if r, ok := x.recode(w, s.Code, k); ok {
			return r.errorBelow(limit)
		}
		if all == nil {
			all = w.head(x, w.len())
		}
		if w.codes != nil { // they are widened now
			w = span{floats: all}
		}
		return x.errorBelow(all, k, limit)
	}
	plain := below(k, math.Inf(1))
	steps := [...]int{1, -1, 2, -2, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120}
	tries := steps[:4]
	if s.Code == E4M3 {
		tries = steps[:] // a float grid repeats every octave: walk up one
	}
	for _, d := range tries {
		t := BF16ToF32(uint16(int(F32ToBF16(k.stored)) + d))
		if !(t >= minNormal && t <= 0x1p126) {
			continue
		}
		if c := s.against(t); below(c, plain) < plain {
			return c, w
		}
	}
	return k, w
}

// errorBelow returns the squared error of w under a scale if it is below the
// limit, and the limit or more if not. Sums of squares only grow, so that it may
// be known before the end.
func (x *Scratch) errorBelow(w []float32, k blockScale, limit float64) float64 {
	if k.by == byReciprocal {
		if e, ok := errorVector(w, x.spec.Code, k.factor, k.stored, limit); ok {
			return e
		}
	}
	x.spare = resize(x.spare, len(w))
	return encode(x.spare, w, x.spec.Code, k.by, k.factor, k.stored).errSq
}

// harmless reports whether BF16 and F32 quotients by a scale give w the same
// codes.
func (x *Scratch) harmless(w []float32, k blockScale) bool {
	c, step := x.spec.Code, chunkLen/4
	if same, ok := alikeVector(w, c, k.stored); ok {
		return same == len(w)
	}
	for ; len(w) > 0; w = w[min(len(w), step):] {
		if !roundingIsHarmless(c, w[:min(len(w), step)], k.stored) {
			return false
		}
	}
	return true
}

// roundingIsHarmless reports whether BF16 and F32 quotients give w, at most a
// chunk, the same codes.
func roundingIsHarmless(c Code, w []float32, s float32) bool {
	var exact, rounded [chunkLen]byte
	encode(exact[:len(w)], w, c, exactQuotient, s, s)
	encode(rounded[:len(w)], w, c, bf16Quotient, s, s)
	return exact == rounded
}
