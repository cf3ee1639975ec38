//go:build !purego

package kernel

import (
	"encoding/binary"
	"unsafe"
)

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
	kept, whole := make([]int8, m*k), k/32*32
	chunks := codes(max(whole/32, 1) * chunkBytes)
	defer chunks.free()
	for i := range m {
		old, row, n := unsafe.Slice((*int8)(unsafe.Pointer(&s.codes[i*k])), k), kept[i*k:][:k], 0
		if whole > 0 {
			n = splitAVX2(&row[0], &chunks.s[0], &old[0], whole)
		}
		for c := range n {
			chunk := chunks.s[c*chunkBytes:][:chunkBytes]
			at := int(binary.LittleEndian.Uint64(chunk))
			for f := range 8 {
				if word := chunk[8+4*f:][:4]; binary.LittleEndian.Uint32(word) != 0 {
					s.pieces = append(s.pieces, piece{int32((at/4 + f) * size), [4]int8{0: int8(word[0]), 2: int8(word[2])}})
				}
			}
		}
		for c := whole; c < k; c += 4 {
			q := old[c:][:4]
			less := [4]int8{0: excess(q[0], q[1]), 2: excess(q[2], q[3])}
			for j := range less {
				row[c+j] = q[j] - less[j]
			}
			if less[0] != 0 || less[2] != 0 {
				s.pieces = append(s.pieces, piece{int32(c / 4 * size), less})
			}
		}
		s.ends = append(s.ends, len(s.pieces))
	}
	s.codes = unsafe.Slice((*byte)(unsafe.Pointer(&kept[0])), len(kept))
}

// chunkBytes are those of a chunk of splitAVX2: where 32 codes of a row are, in 64
// bits, and what was taken off them.
const chunkBytes = 8 + 32

// excess is what the sum of two codes is beyond ±128.
func excess(a, b int8) int8 {
	s := int(a) + int(b)
	return int8(s - min(max(s, -128), 128))
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
