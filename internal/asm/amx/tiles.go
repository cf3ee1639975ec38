package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// kind is a sort of product: the instruction, and for how many terms of the
// tokens it is done.
type kind struct {
	name    string
	what    string
	terms   int
	product func(b, a, sum emit.Tile)
}

var kinds = []kind{
	{"Int8", "int8 codes, exact sums in int32", 1, emit.TileInt8},
	{"BF16", "BF16 in float32", 1, emit.TileBF16},
	{"Float", "BF16 weights and float32 tokens, split into three BF16 terms that are added largest first", 3, emit.TileBF16},
}

// tiles makes the kernel for blocks of two by n tiles.
func (k kind) tiles(n int) {
	name := fmt.Sprintf("amx%sx%d", k.name, n)
	emit.Begin(name, "func(c *byte, ldc, nextc int, w *byte, ldw int, x *byte, ldx, nextx int, blocks, groups, steps, add int, next *byte, lines int, "+
		"shape *[64]byte)",
		fmt.Sprintf("computes c[g][i][j] = Σ w·x (%s) over steps of 64 bytes for g < groups, i < 32 rows of weights and %d·16·blocks tokens; with add it goes "+
			"on with what c holds. c: 4 bytes a sum, rows ldc bytes, groups nextc bytes apart; w: rows ldw bytes apart, groups behind each other; x: tiles of "+
			"16 rows ldx bytes apart, %d for a step, all steps of 16 tokens behind each other, the next 16 nextx bytes on. Each step prefetches lines from "+
			"next on. shape is the configuration of all tiles.", k.what, n, k.terms))
	var (
		c, ldc        = reg.RDI, reg.R11
		w0, w1, ldw   = reg.RSI, reg.R12, reg.R9
		x0, x1, ldx   = reg.RDX, reg.R8, reg.R10
		steps, groups = reg.R13, reg.RBX
		next, t, c1   = reg.R15, reg.RAX, reg.RCX
		lowC, highC   = []emit.TileRows{emit.TileAt(c, ldc, 0), emit.TileAt(c, ldc, 64)}, []emit.TileRows{emit.TileAt(c1, ldc, 0), emit.TileAt(c1, ldc, 64)}
		from          = []reg.GPPhysical{x0, x1}
		eachSum       = func(fn func(s emit.Tile, m emit.TileRows)) {
			for j := range n {
				fn(sum(0, j), lowC[j])
				fn(sum(1, j), highC[j])
			}
		}
	)
	arg("shape", t)
	emit.TileConfig(t)
	arg("ldc", ldc)
	arg("ldw", ldw)
	arg("ldx", ldx)
	arg("next", next)
	// What moves from block to block stays on the stack.
	tokens, sums, left := AllocLocal(8), AllocLocal(8), AllocLocal(8)
	arg("x", x0)
	MOVQ(x0, tokens)
	arg("c", c)
	MOVQ(c, sums)
	arg("blocks", t)
	MOVQ(t, left)

	Label("block")
	MOVQ(tokens, x0)
	arg("nextx", t)
	LEAQ(Mem{Base: x0, Index: t, Scale: 1}, x1)
	MOVQ(sums, c)
	arg("w", w0)
	MOVQ(ldw, t)
	SHLQ(Imm(4), t)
	LEAQ(Mem{Base: w0, Index: t, Scale: 1}, w1)
	arg("groups", groups)

	Label("group")
	MOVQ(ldc, c1)
	SHLQ(Imm(4), c1)
	ADDQ(c, c1)
	arg("add", t)
	TESTQ(t, t)
	JZ(LabelRef("begin"))
	eachSum(func(s emit.Tile, m emit.TileRows) { emit.TileLoad(m, s) })
	JMP(LabelRef("sums"))
	Label("begin")
	eachSum(func(s emit.Tile, _ emit.TileRows) { emit.TileZero(s) })
	Label("sums")
	arg("steps", steps)

	Label("step")
	prefetchLines(next, t)
	MOVQ(ldx, t)
	SHLQ(Imm(4), t)
	emit.TileLoad(emit.TileAt(w0, ldw, 0), 4)
	emit.TileLoad(emit.TileAt(w1, ldw, 0), 5)
	k.products(n, from, ldx, t)
	ADDQ(Imm(64), w0)
	ADDQ(Imm(64), w1)
	DECQ(steps)
	JNZ(LabelRef("step"))

	eachSum(emit.TileStore)
	arg("nextc", t)
	ADDQ(t, c)
	DECQ(groups)
	JNZ(LabelRef("group"))

	arg("nextx", t)
	if n == 2 {
		ADDQ(t, t)
	}
	ADDQ(t, tokens)
	ADDQ(U32(64*n), sums)
	DECQ(left)
	JNZ(LabelRef("block"))
	emit.TileRelease()
	RET()
}

// arg loads a parameter into a register.
func arg(name string, r reg.GPPhysical) { Load(Param(name), r) }

// sum is the tile with the sums of rows 16·i on and tokens 16·j on.
func sum(i, j int) emit.Tile { return emit.Tile(2*i + j) }

// prefetchLines fetches as many lines from next on as the kernel is told.
func prefetchLines(next, t reg.GPPhysical) {
	arg("lines", t)
	TESTQ(t, t)
	JZ(LabelRef("fetched"))
	Label("fetch")
	PREFETCHT1(Mem{Base: next})
	ADDQ(Imm(64), next)
	DECQ(t)
	JNZ(LabelRef("fetch"))
	Label("fetched")
}

// products adds a step's products of the weights in tiles 4 and 5 by n tiles of
// tokens, term after term; t is how far tiles of tokens are apart in bytes.
func (k kind) products(n int, from []reg.GPPhysical, ldx, t reg.GPPhysical) {
	for range k.terms {
		for j := range n {
			emit.TileLoad(emit.TileAt(from[j], ldx, 0), emit.Tile(6+j))
			ADDQ(t, from[j])
		}
		for i := range 2 {
			for j := range n {
				k.product(emit.Tile(6+j), emit.Tile(4+i), sum(i, j))
			}
		}
	}
}
