// Command limits generates the loops that measure what a processor can do:
// multiply-accumulates with nothing else in the way, and memory streams.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

func main() {
	ConstraintExpr("!purego")
	fma("fmaAVX2", 12, YMM)
	fma("fmaAVX512", 24, ZMM)
	maddubs()
	maddwd()
	vnni()
	tiles("int8AMX", "TDPBSSD (16,384 multiply-accumulates each)", emit.TileInt8)
	tiles("bf16AMX", "TDPBF16PS (8,192 multiply-accumulates each)", emit.TileBF16)
	read()
	stream()
	Generate()
}

// peak makes a loop of n turns; body is emitted once.
func peak(name, doc string, vec func() reg.VecVirtual, accs int, body func(a []reg.VecVirtual, x, y reg.VecVirtual)) {
	emit.Begin(name, "func(n int)", "runs n turns of "+doc+".")
	n := Load(Param("n"), GP64())
	x, y := vec(), vec()
	emit.Zero(x)
	emit.Zero(y)
	a := make([]reg.VecVirtual, accs)
	for i := range a {
		a[i] = vec()
		emit.Zero(a[i])
	}
	Label("loop")
	body(a, x, y)
	DECQ(n)
	JNZ(LabelRef("loop"))
	emit.End()
}

func fma(name string, accs int, vec func() reg.VecVirtual) {
	peak(name, fmt.Sprintf("%d independent fused multiply-adds of whole vectors", accs), vec, accs, func(a []reg.VecVirtual, x, y reg.VecVirtual) {
		for _, v := range a {
			VFMADD231PS(x, y, v)
		}
	})
}

// maddubs is the usual int8 sequence: bytes to pairs, pairs to fours, sum.
func maddubs() {
	peak("maddubsAVX2", "10 sequences of VPMADDUBSW, VPMADDWD and VPADDD (32 multiply-accumulates each)", YMM, 10,
		func(a []reg.VecVirtual, x, y reg.VecVirtual) {
			for _, v := range a {
				t := YMM()
				VPMADDUBSW(x, y, t)
				VPMADDWD(t, y, t)
				VPADDD(t, v, v)
			}
		})
}

// maddwd is the sequence that is exact for all int8 codes.
func maddwd() {
	peak("maddwdAVX2", "10 sequences of VPMADDWD and VPADDD (16 multiply-accumulates each)", YMM, 10, func(a []reg.VecVirtual, x, y reg.VecVirtual) {
		for _, v := range a {
			t := YMM()
			VPMADDWD(x, y, t)
			VPADDD(t, v, v)
		}
	})
}

func vnni() {
	peak("vnniAVX512", "24 independent VPDPBUSD (64 multiply-accumulates each)", ZMM, 24, func(a []reg.VecVirtual, x, y reg.VecVirtual) {
		for _, v := range a {
			VPDPBUSD(x, y, v)
		}
	})
}

// tiles multiplies matrix tiles, which it configures and releases.
func tiles(name, what string, product func(b, a, sum emit.Tile)) {
	emit.Begin(name, "func(n int, shape *[64]byte)", "runs n turns of 4 independent "+what+" on tiles of the given configuration.")
	Load(Param("shape"), reg.RAX)
	emit.TileConfig(reg.RAX)
	for t := range emit.Tile(8) {
		emit.TileZero(t)
	}
	Load(Param("n"), reg.RCX)
	Label("loop")
	for i := range emit.Tile(2) {
		for j := range emit.Tile(2) {
			product(6+j, 4+i, 2*i+j)
		}
	}
	DECQ(reg.RCX)
	JNZ(LabelRef("loop"))
	emit.TileRelease()
	RET()
}

// read loads n bytes, a multiple of 512.
func read() {
	emit.Begin("readAVX2", "func(p *byte, n int) uint64", "loads n bytes, a multiple of 512, and returns a value that depends on all.")
	p, n := Load(Param("p"), GP64()), Load(Param("n"), GP64())
	a := make([]reg.VecVirtual, 8)
	for i := range a {
		a[i] = YMM()
		emit.Zero(a[i])
	}
	Label("loop")
	for i := range 16 {
		VPXOR(Mem{Base: p}.Offset(32*i), a[i%8], a[i%8])
	}
	ADDQ(U32(512), p)
	SUBQ(U32(512), n)
	JNZ(LabelRef("loop"))
	for i := 1; i < 8; i++ {
		VPXOR(a[i], a[0], a[0])
	}
	r := GP64()
	VMOVQ(a[0].AsX(), r)
	VZEROUPPER()
	Store(r, ReturnIndex(0))
	RET()
}

// stream reads 2n bytes and writes n past the caches, n a multiple of 128: the
// traffic of quantising 16-bit weights to 8 bits.
func stream() {
	emit.Begin("streamAVX2", "func(dst, src *byte, n int)", "reads 2n bytes and writes n past the caches; n is a multiple of 128, dst aligned to 32.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	Label("loop")
	for i := range 4 {
		v := YMM()
		VMOVDQU(Mem{Base: src}.Offset(64*i), v)
		VPADDB(Mem{Base: src}.Offset(64*i+32), v, v)
		VMOVNTDQ(v, Mem{Base: dst}.Offset(32*i))
	}
	ADDQ(U32(256), src)
	ADDQ(U32(128), dst)
	SUBQ(U32(128), n)
	JNZ(LabelRef("loop"))
	SFENCE()
	emit.End()
}
