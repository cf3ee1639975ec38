// Package emit is what the generators of vector kernels share.
package emit

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Begin declares a function whose pointers do not escape. Its comment is the
// name and doc.
func Begin(name, sig, doc string) {
	TEXT(name, NOSPLIT, sig)
	Pragma("noescape")
	Doc(name + " " + doc)
}

// End leaves the function: the vector registers' upper halves are clean.
func End() {
	VZEROUPPER()
	RET()
}

// Zero clears a vector register.
func Zero(v reg.VecVirtual) {
	if v.Size() == 64 {
		VPXORD(v, v, v)
	} else {
		VPXOR(v, v, v)
	}
}

// Broadcast spreads a float32 parameter over the lanes of v, straight from the
// stack: loading it first takes an instruction without VEX, which among vector
// instructions costs more than many of them.
func Broadcast(param string, v reg.VecVirtual) reg.VecVirtual {
	p, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(p.Addr, v)
	return v
}

var constants = map[string]Mem{}

// Lanes is a constant of the generated file: bits in each of n 32-bit lanes.
func Lanes(bits uint32, n int) Mem {
	name := fmt.Sprintf("lanes%dx%08x", n, bits)
	if m, ok := constants[name]; ok {
		return m
	}
	m := GLOBL(name, RODATA|NOPTR)
	for i := range n {
		DATA(4*i, U32(bits))
	}
	constants[name] = m
	return m
}

// Rows are the pointers that address r rows of the slice param, stride apart in
// elements of size bytes: the stride, and a base for every three rows (base,
// base+stride, base+2·stride), so that six rows do not take six registers.
type Rows []reg.GPVirtual

// NewRows loads them.
func NewRows(param, stride string, r, size int) Rows {
	base, ld := GP64(), GP64()
	Load(Param(param), base)
	Load(Param(stride), ld)
	for s := size; s > 1; s /= 2 {
		ADDQ(ld, ld)
	}
	out := Rows{ld, base}
	for i := 3; i < r; i += 3 {
		next := GP64()
		LEAQ(Mem{Base: out[len(out)-1], Index: ld, Scale: 2}, next)
		ADDQ(ld, next)
		out = append(out, next)
	}
	return out
}

// At addresses row i.
func (p Rows) At(i int) Mem {
	m := Mem{Base: p[1+i/3]}
	if s := i % 3; s > 0 {
		m.Index, m.Scale = p[0], uint8(s)
	}
	return m
}

// Advance moves all rows on.
func (p Rows) Advance(bytes int) {
	n := Imm(uint64(bytes))
	if bytes > 127 { // does not fit in a signed byte
		n = U32(uint32(bytes))
	}
	for _, b := range p[1:] {
		ADDQ(n, b)
	}
}
