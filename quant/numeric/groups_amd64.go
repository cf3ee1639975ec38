//go:build !purego

package numeric

import "unsafe"

// groupTwins tells whether there are twins of the loops over small groups.
func groupTwins() bool { return vector }

// turn puts groups side by side and finds their largest magnitudes and sums of
// squares.
func (g *groups) turn(w []float32) {
	_ = w[g.eights*besides*g.size-1]
	turnGroupsAVX2(&g.turned[0], (*byte)(unsafe.Pointer(&w[0])), g.size, g.eights, &g.top[0], &g.sq[0])
}

// turnBF16 is turn of weights as a checkpoint stores them.
func (g *groups) turnBF16(w []byte) {
	_ = w[2*g.eights*besides*g.size-1]
	turnGroupsBF16AVX2(&g.turned[0], &w[0], g.size, g.eights, &g.top[0], &g.sq[0])
}

// formula chooses the scales as LocalCode does.
func (g *groups) formula(s *Spec) {
	narrow := !s.SourceF32 && s.Arith == Compat
	switch {
	case s.Rule == MX && s.SourceF32:
		powersBF16AVX2(&g.codes[0], &g.top[0], g.eights, s.below())
	case s.Rule == MX:
		powersAVX2(&g.codes[0], &g.top[0], g.eights, s.below())
	case s.Times:
		localScalesTimesAVX2(&g.codes[0], &g.top[0], g.eights, E2M1Max*s.Global)
	case narrow:
		localScalesBF16AVX2(&g.codes[0], &g.top[0], g.eights, s.Global)
	default:
		localScalesAVX2(&g.codes[0], &g.top[0], g.eights, s.Global)
	}
}

// powers tells whether scales are powers of two: groups of NVFP4 have sixteen
// weights, those of MX thirty-two.
func (g *groups) powers() bool { return g.size == maxMicro }

// search replaces the scales by those beside them with the least error, as
// searchMicro does, and notes that of the first.
func (g *groups) search(c Code) {
	switch {
	case c == E4M3:
		searchMicroE4M3PowersAVX2(&g.turned[0], g.size, g.eights, &g.codes[0], &g.table[0][0], &g.first[0], &g.er[0])
	case g.powers():
		searchMicroE2M1PowersAVX2(&g.turned[0], g.size, g.eights, &g.codes[0], &g.table[0][0], &g.first[0], &g.er[0])
	default:
		searchMicroE2M1AVX2(&g.turned[0], g.size, g.eights, &g.codes[0], &g.table[0][0], &g.first[0], &g.er[0])
	}
}

// encode writes the codes for the scales, as a file stores them.
func (g *groups) encode(dst []byte, c Code) {
	_ = dst[g.eights*besides*g.size*c.Bits()/8-1]
	switch {
	case c == E4M3:
		encodeMicroE4M3PowersAVX2(&dst[0], &g.turned[0], g.size, g.eights, &g.codes[0], &g.table[0][0], &g.er[0], &g.worst[0])
	case g.powers():
		encodeMicroE2M1PowersAVX2(&dst[0], &g.turned[0], g.size, g.eights, &g.codes[0], &g.table[0][0], &g.er[0], &g.worst[0])
	default:
		encodeMicroE2M1AVX2(&dst[0], &g.turned[0], g.size, g.eights, &g.codes[0], &g.table[0][0], &g.er[0], &g.worst[0])
	}
}
