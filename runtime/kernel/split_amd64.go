//go:build !purego

package kernel

import "unsafe"

// With AVX2 four products become a sum in two steps, and the first, VPMADDUBSW,
// adds two of them as int16, which holds what there may be, 255 times each code,
// as long as the sum of two codes is within ±128. Few pairs of a token are beyond
// that: what they lack is taken off them and multiplied by itself.

// whole returns the codes of activations for the kernels of this path.
func (p *panelPath) whole(a *Int8Rows) *splitRows {
	stored := func() *splitRows { return &splitRows{codes: unsafe.Slice((*byte)(unsafe.Pointer(&a.Q[0])), len(a.Q))} }
	if !p.splits {
		return stored()
	}
	return a.split.get(func() *splitRows {
		s := stored()
		s.split(a.M, a.K, 4*p.width)
		return s
	})
}

// split takes off what is too much; size is the bytes of four columns in a panel.
func (s *splitRows) split(m, k, size int) {
	old := unsafe.Slice((*int8)(unsafe.Pointer(&s.codes[0])), len(s.codes))
	var kept []int8
	for i := range m {
		for c := 0; c < k; c += 32 {
			if c += pairsBeyondVector(old[i*k+c : i*k+k]); c == k {
				break
			}
			for f := c; f < min(c+32, k); f += 4 {
				q := old[i*k+f:][:4]
				less := [4]int8{0: excess(q[0], q[1]), 2: excess(q[2], q[3])}
				if less[0] == 0 && less[2] == 0 {
					continue
				}
				if kept == nil {
					kept = append(kept, old...)
				}
				kept[i*k+f] -= less[0]
				kept[i*k+f+2] -= less[2]
				s.pieces = append(s.pieces, piece{int32(f / 4 * size), less})
			}
		}
		s.ends = append(s.ends, len(s.pieces))
	}
	if kept != nil {
		s.codes = unsafe.Slice((*byte)(unsafe.Pointer(&kept[0])), len(kept))
	}
}

// excess is what the sum of two codes is beyond ±128.
func excess(a, b int8) int8 {
	s := int(a) + int(b)
	return int8(s - min(max(s, -128), 128))
}

// pairsBeyondVector returns how many codes, a multiple of 32, are before the first
// 32 of which some have to be split, or len(q) if none has, as far as vectors tell.
func pairsBeyondVector(q []int8) int {
	n := len(q) / 32 * 32
	if n == 0 {
		return 0
	}
	return pairsBeyondAVX2(&q[0], n)
}

// cut returns the runs of pieces, the first and how many, of each part of the
// columns and token, [parts, M]; ends are where parts end.
func (s *splitRows) cut(ends []int, size int) [][2]int32 {
	if len(s.pieces) == 0 {
		return nil
	}
	m := len(s.ends)
	runs := make([][2]int32, len(ends)*m)
	at := 0
	for i, last := range s.ends {
		for n, end := range ends {
			from := at
			for at < last && int(s.pieces[at].at) < end/4*size {
				at++
			}
			runs[n*m+i] = [2]int32{int32(from), int32(at - from)}
		}
	}
	return runs
}
