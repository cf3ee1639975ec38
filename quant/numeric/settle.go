package numeric

// settle keeps the absmax scale k of an FP8 or INT8 block, except in the rare
// case in which exact quotients gain nothing over the reference tool's rounded
// ones: under some scales (powers of two, 33/32, …) both give the same codes, as
// a probe of the first elements tells. Then the first BF16 scale nearby that has
// a smaller error is taken, so that the best arithmetic stays the better one.
// plain is the squared error under k.
func (x *Scratch) settle(k blockScale, w span, plain float64) blockScale {
	s := &x.spec
	if s.Rule != CompressedTensors || s.Arith != Best || s.Code == Int4 {
		return k
	}
	const probe, step = 2 * chunkLen, chunkLen / 4
	for rest := w.head(x, min(w.len(), probe)); len(rest) > 0; rest = rest[min(len(rest), step):] {
		if !roundingIsHarmless(s.Code, rest[:min(len(rest), step)], k.stored) {
			return k
		}
	}
	x.spare = resize(x.spare, max(w.len(), w.rows*w.cols))
	errSq := func(k blockScale) float64 { return w.encode(x.spare, s.Code, k).errSq }
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
		if c := s.against(t); errSq(c) < plain {
			return c
		}
	}
	return k
}

// roundingIsHarmless reports whether BF16 and F32 quotients give w, at most a
// chunk, the same codes.
func roundingIsHarmless(c Code, w []float32, s float32) bool {
	var exact, rounded [chunkLen]byte
	encode(exact[:len(w)], w, c, exactQuotient, s, s)
	encode(rounded[:len(w)], w, c, bf16Quotient, s, s)
	return exact == rounded
}
