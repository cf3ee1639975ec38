package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// The twins for formats with scales of small groups take eight groups at a
// time, a group a lane: sums run over a group's weights in their order, as the
// plain loops' do, and what belongs to a group is a vector. A call takes several
// eights, so that one's begin fills the time of another's end.

// micro is a kind of such codes: what they are, and how a weight is divided by
// its scale. Powers of two are multiplied with their inverse, which is as exact,
// others with two numbers that make up theirs.
type micro struct {
	code    string
	product bool
}

func (k micro) name() string {
	if k.product {
		return k.code + "Powers"
	}
	return k.code
}

func microTwins() {
	turnGroups("F32")
	turnGroups("BF16")
	for _, round := range []bool{false, true} {
		localScales(round)
		powers(round)
	}
	localScalesTimes()
	for _, k := range []micro{{"E2M1", false}, {"E2M1", true}, {"E4M3", true}} {
		k.search()
		k.encode()
	}
}

// turned is how far the magnitudes of turned weights lie behind them, in bytes.
const turned = 2048 * 4

// turnGroups puts eight groups side by side, and eight after eight.
func turnGroups(dtype string) {
	name, size := "turnGroupsAVX2", 4
	if dtype == "BF16" {
		name, size = "turnGroupsBF16AVX2", 2
	}
	emit.Begin(name, "func(dst *float32, w *byte, size, eights int, top *uint32, sq *float32)",
		"writes weight i of group g of eight groups, size weights each, to dst[8*i+g], its magnitude 2048 places behind, the groups' largest magnitudes and sums of squares, and goes on with the next eight groups.")
	rows, dst, n := emit.NewRows("w", "size", 8, size), Load(Param("dst"), GP64()), GP64()
	tops, sqs := Load(Param("top"), GP64()), Load(Param("sq"), GP64())
	mask := YMM()
	VMOVUPS(all(absMask), mask)
	Label("eight")
	Load(Param("size"), n)
	top, sq := YMM(), YMM()
	emit.Zero(top)
	emit.Zero(sq)
	Label("loop")
	for half := range 2 {
		for i, c := range turnFour(fourRows(rows, half, size)) {
			place := Mem{Base: dst, Disp: 32 * (4*half + i)}
			VMOVUPS(c, place)
			square := YMM()
			VMULPS(c, c, square)
			VADDPS(square, sq, sq)
			VPAND(mask, c, c)
			place.Disp += turned
			VMOVUPS(c, place)
			VPMAXUD(c, top, top)
		}
	}
	rows.Advance(8 * size)
	ADDQ(U32(256), dst)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("loop"))
	VMOVDQU(top, Mem{Base: tops})
	VMOVUPS(sq, Mem{Base: sqs})
	ADDQ(Imm(32), tops)
	ADDQ(Imm(32), sqs)
	// The rows are behind the first of these groups: seven more to the next.
	for range 7 {
		for _, r := range rows[1:] {
			ADDQ(rows[0], r)
		}
	}
	left, err := Param("eights").Resolve()
	if err != nil {
		panic(err)
	}
	DECQ(left.Addr)
	JNZ(LabelRef("eight"))
	emit.End()
}

// fourRows loads four weights of each of eight rows as float32, row i beside
// row i+4.
func fourRows(rows emit.Rows, half, size int) (r [4]reg.VecVirtual) {
	for i := range r {
		r[i] = YMM()
		a, b := rows.At(i), rows.At(i+4)
		a.Disp, b.Disp = 4*size*half, 4*size*half
		if size == 4 {
			VMOVUPS(a, r[i].AsX())
			VINSERTF128(Imm(1), b, r[i], r[i])
			continue
		}
		words := XMM()
		VMOVQ(a, words)
		VMOVHPS(b, words, words)
		VPMOVZXWD(words, r[i])
		VPSLLD(Imm(16), r[i], r[i])
	}
	return r
}

// turnFour transposes the 4×4 matrices in the halves of four rows.
func turnFour(r [4]reg.VecVirtual) [4]reg.VecVirtual {
	var t, c [4]reg.VecVirtual
	for i := range t {
		t[i], c[i] = YMM(), YMM()
	}
	VUNPCKLPS(r[1], r[0], t[0])
	VUNPCKHPS(r[1], r[0], t[1])
	VUNPCKLPS(r[3], r[2], t[2])
	VUNPCKHPS(r[3], r[2], t[3])
	VUNPCKLPD(t[2], t[0], c[0])
	VUNPCKHPD(t[2], t[0], c[1])
	VUNPCKLPD(t[3], t[1], c[2])
	VUNPCKHPD(t[3], t[1], c[3])
	return c
}

// narrow rounds positive numbers to bfloat16, as roundFinite does.
func narrow(x reg.VecVirtual) {
	odd := YMM()
	VPSRLD(Imm(16), x, odd)
	VPAND(all(1), odd, odd)
	VPADDD(odd, x, x)
	VPADDD(all(0x7fff), x, x)
	VPAND(all(0xffff0000), x, x)
}

// scaleTwin is a function that makes scale codes of magnitudes, of eight groups
// after eight. begin loads what it needs; code makes codes of x.
func scaleTwin(name, param, doc string, round bool, begin func(), code func(x reg.VecVirtual) reg.VecVirtual) {
	if round {
		name += "BF16"
	}
	emit.Begin(name+"AVX2", "func(codes *int32, top *uint32, eights int, "+param+")", doc)
	codes, top, n := Load(Param("codes"), GP64()), Load(Param("top"), GP64()), Load(Param("eights"), GP64())
	begin()
	Label("loop")
	x := YMM()
	VMOVDQU(Mem{Base: top}, x)
	VMOVDQU(code(x), Mem{Base: codes})
	ADDQ(Imm(32), top)
	ADDQ(Imm(32), codes)
	DECQ(n)
	JNZ(LabelRef("loop"))
	emit.End()
}

// instead replaces codes by another one where empty is set.
func instead(codes, empty reg.VecVirtual, code uint32) reg.VecVirtual {
	other := YMM()
	VMOVDQU(all(code), other)
	VPBLENDVB(empty, other, codes, codes)
	return codes
}

// localScales is LocalCode of NVFP4 below a global scale that divides.
func localScales(round bool) {
	var global reg.VecVirtual
	scaleTwin("localScales", "global float32", "writes the E4M3 scales of groups whose largest magnitudes are top, times global.", round,
		func() { global = emit.Broadcast("global", YMM()) },
		func(x reg.VecVirtual) reg.VecVirtual {
			VDIVPS(float(6), x, x)
			if round {
				narrow(x)
			}
			VMULPS(global, x, x)
			codes, _ := roundE4M3(x)
			zero := YMM()
			emit.Zero(zero)
			VPCMPEQD(zero, codes, zero)
			return instead(codes, zero, 0x20)
		})
}

// localScalesTimes is the same below one that multiplies; six is 6·global.
func localScalesTimes() {
	var six reg.VecVirtual
	scaleTwin("localScalesTimes", "six float32", "writes the E4M3 scales of groups whose largest magnitudes are top, over six.", false,
		func() { six = emit.Broadcast("six", YMM()) },
		func(x reg.VecVirtual) reg.VecVirtual {
			zero := YMM()
			emit.Zero(zero)
			VPCMPEQD(zero, x, zero)
			VDIVPS(six, x, x)
			VMAXPS(float(1./512), x, x)
			codes, _ := roundE4M3(x)
			return instead(codes, zero, 0x38)
		})
}

// powers is LocalCode of MX.
func powers(round bool) {
	var down, zero reg.VecVirtual
	scaleTwin("powers", "offset int", "writes the E8M0 scales of groups whose largest magnitudes are top, offset below their exponents.", round,
		func() {
			low, offset := GP64(), XMM()
			Load(Param("offset"), low)
			VMOVD(low.As32(), offset)
			down, zero = YMM(), YMM()
			VPBROADCASTD(offset, down)
			emit.Zero(zero)
		},
		func(x reg.VecVirtual) reg.VecVirtual {
			if round {
				narrow(x)
			}
			VPSRLD(Imm(16), x, x)
			VPADDD(all(32), x, x)
			VPSRLD(Imm(7), x, x)
			VPSUBD(down, x, x)
			VPMAXSD(zero, x, x)
			return x
		})
}
