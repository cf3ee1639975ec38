//go:build !purego

package numeric

// groupTwins tells whether there are twins of the loops over small groups.
func groupTwins() bool { return vector }

// turn puts eight groups side by side and finds their largest magnitudes and
// sums of squares.
func (g *eight) turn(w []float32) {
	_ = w[besides*g.size-1]
	turnGroupsAVX2(&g.turned[0], &w[0], g.size, &g.top, &g.sq)
}

// formula chooses the scales as LocalCode does.
func (g *eight) formula(s *Spec) {
	narrow := !s.SourceF32 && s.Arith == Compat
	switch {
	case s.Rule == MX && s.SourceF32:
		powersBF16AVX2(&g.codes, &g.top, s.below())
	case s.Rule == MX:
		powersAVX2(&g.codes, &g.top, s.below())
	case s.Times:
		localScalesTimesAVX2(&g.codes, &g.top, E2M1Max*s.Global)
	case narrow:
		localScalesBF16AVX2(&g.codes, &g.top, s.Global)
	default:
		localScalesAVX2(&g.codes, &g.top, s.Global)
	}
}

// powers tells whether scales are powers of two: groups of NVFP4 have sixteen
// weights, those of MX thirty-two.
func (g *eight) powers() bool { return g.size == maxMicro }

// search replaces the scales by those beside them with the least error, as
// searchMicro does, and notes that of the first.
func (g *eight) search(c Code) {
	switch {
	case c == E4M3:
		searchMicroE4M3PowersAVX2(&g.turned[0], g.size, &g.codes, &g.values[0], &g.first, &g.er)
	case g.powers():
		searchMicroE2M1PowersAVX2(&g.turned[0], g.size, &g.codes, &g.values[0], &g.first, &g.er)
	default:
		searchMicroE2M1AVX2(&g.turned[0], g.size, &g.codes, &g.values[0], &g.first, &g.er)
	}
}

// encode writes the codes for the scales, as a file stores them.
func (g *eight) encode(dst []byte, c Code) {
	_ = dst[besides*g.size*c.Bits()/8-1]
	switch {
	case c == E4M3:
		encodeMicroE4M3PowersAVX2(&dst[0], &g.turned[0], g.size, &g.codes, &g.values[0], &g.er, &g.worst)
	case g.powers():
		encodeMicroE2M1PowersAVX2(&dst[0], &g.turned[0], g.size, &g.codes, &g.values[0], &g.er, &g.worst)
	default:
		encodeMicroE2M1AVX2(&dst[0], &g.turned[0], g.size, &g.codes, &g.values[0], &g.er, &g.worst)
	}
}
