//go:build !purego

package kernel

import (
	"unsafe"

	"github.com/glmconv/glmconv/internal/cpu"
)

// amxPanel is how many weight rows are computed together: two tiles.
const amxPanel = 32

// tiled says whether products run on AMX tiles. Those of integers are exact; of
// the others all do or none, whatever the number of tokens, since the order of
// their sums is the tiles' own.
var tiled = cpu.Current() >= cpu.AMX

// amxKernel computes sums of two tiles of weights and one or two of tokens, see
// internal/asm/amx.
type amxKernel = func(c *byte, ldc, nextc int, w *byte, ldw int, x *byte, ldx, nextx, blocks, groups, steps, add int, next *byte, lines int, shape *[64]byte)

var (
	amxInt8  = [2]amxKernel{amxInt8x1, amxInt8x2}
	amxBF16  = [2]amxKernel{amxBF16x1, amxBF16x2}
	amxFloat = [2]amxKernel{amxFloatx1, amxFloatx2}
)

// amxShapes configure all tiles with 16 rows of 64 bytes; the first, those of
// tokens and sums with one column.
var amxShapes = [2]*[64]byte{amxShape(4), amxShape(64)}

func amxShape(tokens byte) *[64]byte {
	s := &[64]byte{0: 1}
	for t := range 8 {
		s[16+2*t], s[48+t] = tokens, 16
		if t == 4 || t == 5 { // weights
			s[16+2*t] = 64
		}
	}
	return s
}

// amxProduct is a product of tokens with a weight.
type amxProduct struct {
	run      [2]amxKernel
	x        *tokenTiles
	rows     int
	group    int // steps of a scale group
	data     []byte
	rowBytes int // of data

	// fill writes steps lo … hi−1 of weight rows j … j+r−1 to rows ld bytes apart.
	fill func(dst []byte, ld, j, r, lo, hi int)
	// scale adds sums of group g to acc: 32 rows from j on, cols tokens from i on;
	// nil if the sums are the results.
	scale func(acc *float32, sums *byte, ld, j, r, i, cols, g int)
}

// amxCut is a run of steps: whole scale groups, or a part of one.
type amxCut struct {
	lo, steps, groups, group int // steps of each group
	first, last              bool
}

// cuts cuts the steps of a weight so that none has more than most of them, if
// its groups are not larger.
func amxCuts(steps, group, most int) (out []amxCut) {
	for lo := 0; lo < steps; {
		g := lo / group
		left := min((g+1)*group, steps) - lo // of this group
		c := amxCut{lo: lo, steps: min(left, most), groups: 1, group: g, first: lo == g*group}
		c.last = c.steps == left
		if c.first && c.last && c.steps == group {
			c.groups = max(1, min(most/group, (steps-lo)/group))
		}
		out, lo = append(out, c), lo+c.steps*c.groups
	}
	return out
}

// keeps reports whether the sums of a cut stay beyond the panel: they go on, or
// are the results.
func (p *amxProduct) keeps(c amxCut) bool { return p.scale == nil || !c.first || !c.last }

// Bytes of tokens and of a panel of weights that share the second-level cache.
const (
	amxTokenBytes  = 768 << 10
	amxWeightBytes = 256 << 10
	amxTokens      = 256 // computed before the weights are read again
)

// product computes y[M,rows].
func (p *amxProduct) product(y []float32, ldy int, workers *Workers) {
	x := p.x
	if p.rows == 0 {
		return
	}
	_ = y[(x.m-1)*ldy+p.rows-1]
	blocks := (x.tiles*16 + amxTokens - 1) / amxTokens
	wide := (x.tiles + blocks - 1) / blocks // tiles of a block
	if blocks > 1 {
		wide += wide & 1 // pairs of them
	}
	most := max(1, min(amxWeightBytes/(64*amxPanel), amxTokenBytes/(wide*x.step*x.terms)))
	cuts := amxCuts(x.steps, p.group, most)
	align := amxPanel
	if workers != nil && x.m > 16 {
		align = max(1, min(p.rows/(4*max(workers.N, 1)), amxTokens)/amxPanel) * amxPanel
	}
	workers.Each(p.rows, align, x.m*x.steps*64, func(lo, hi int) {
		for i := 0; i < x.tiles; i += wide {
			p.block(y, ldy, lo, hi, i, min(wide, x.tiles-i), cuts)
		}
	})
}

// block computes rows lo … hi−1 for some tiles of tokens.
func (p *amxProduct) block(y []float32, ldy, lo, hi, first, tiles int, cuts []amxCut) {
	x := p.x
	ld := 16*tiles + 16 // rows not a power of two apart
	panels := (hi - lo + amxPanel - 1) / amxPanel
	groups, steps, parts := 1, 1, 1
	for _, c := range cuts {
		groups, steps = max(groups, c.groups), max(steps, c.steps*c.groups)
		if p.keeps(c) {
			parts = panels
		}
	}
	ldw := 64*steps + 64
	panel, sums, acc := lines(amxPanel*ldw), lines(4*ld*amxPanel*max(groups, parts)), lines(4*ld*amxPanel*panels)
	defer panel.free()
	defer sums.free()
	defer acc.free()
	for _, c := range cuts {
		for n, j := 0, lo; j < hi; n, j = n+1, j+amxPanel {
			r := min(amxPanel, hi-j)
			p.fill(panel.s, ldw, j, r, c.lo, c.lo+c.steps*c.groups)
			at := sums.s
			if p.keeps(c) {
				at = at[4*ld*amxPanel*n:]
			}
			// What comes next is fetched meanwhile, unless it lies in pieces.
			next, fetch := &idle, 0
			if from := (j + r) * p.rowBytes; len(cuts) == 1 && from < len(p.data) {
				next = &p.data[from]
				turns := (tiles + 1) / 2 * x.steps
				fetch = (min(amxPanel*p.rowBytes, len(p.data)-from)/64 + turns - 1) / turns
			}
			add := 1
			if c.first {
				add = 0
			}
			run := func(tile, n, count int) {
				if count > 0 {
					p.run[n-1](&at[64*tile], 4*ld, 4*ld*amxPanel, &panel.s[0], ldw, &x.data[((first+tile)*x.steps+c.lo)*x.terms*x.step], x.step/16,
						x.steps*x.terms*x.step, count, c.groups, c.steps, add, next, fetch, amxShapes[min(x.m-1, 1)])
				}
			}
			run(0, 2, tiles/2)
			if fetch > 0 && tiles > 1 {
				next = &p.data[min((j+r)*p.rowBytes+64*fetch*(tiles/2)*x.steps, len(p.data)-1)]
			}
			run(tiles&^1, 1, tiles&1)
			if p.scale == nil || !c.last {
				continue
			}
			for g := range c.groups {
				p.scale(floatAt(acc.s, ld*amxPanel*n), &at[4*ld*amxPanel*g], ld, j, r, 16*first, 16*tiles, c.group+g)
			}
		}
	}
	results := acc.s
	if p.scale == nil {
		results = sums.s
	}
	out := floats(16 * amxPanel)
	defer out.free()
	for n, j := 0, lo; j < hi; n, j = n+1, j+amxPanel {
		amxOutput(y[16*first*ldy+j:], ldy, results[4*ld*amxPanel*n:], ld, min(amxPanel, hi-j), min(16*tiles, x.m-16*first), out.s)
	}
}

// amxOutput turns 32 rows of m results to y, of which it writes r columns.
func amxOutput(y []float32, ldy int, acc []byte, ld, r, m int, out []float32) {
	if m == 1 {
		for n := range r {
			y[n] = *floatAt(acc, n*ld)
		}
		return
	}
	turn := func(dst *float32, ldd, i, tokens int) {
		for half := range 2 {
			transposeWordsAVX512((*uint32)(unsafe.Add(unsafe.Pointer(dst), 64*half)), ldd, &acc[4*(16*half*ld+i)], 4*ld, tokens, 0)
		}
	}
	i := 0
	if r == amxPanel && m >= 16 {
		i = m / 16 * 16
		turn(&y[0], ldy, 0, i)
	}
	for ; i < m; i += 16 {
		turn(&out[0], amxPanel, i, 16)
		for n := range min(16, m-i) {
			copy(y[(i+n)*ldy:][:r], out[n*amxPanel:])
		}
	}
}

// floatAt is element i of float32 in memory.
func floatAt(b []byte, i int) *float32 { return (*float32)(unsafe.Pointer(&b[4*i])) }

// lined is scratch that begins with a cache line.
type lined struct {
	*scratch[byte]
	s []byte
}

func lines(n int) lined {
	b := codes(n + 64)
	off := int(-uintptr(unsafe.Pointer(&b.s[0])) & 63)
	return lined{b, b.s[off : off+n]}
}
