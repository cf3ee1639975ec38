package arm64

import "fmt"

// V is a vector register.
type V int

// Arrangements of a vector register's bits.
func (v V) S4() Operand  { return vector(v, "4s") }
func (v V) S2() Operand  { return vector(v, "2s") }
func (v V) H8() Operand  { return vector(v, "8h") }
func (v V) H4() Operand  { return vector(v, "4h") }
func (v V) B16() Operand { return vector(v, "16b") }
func (v V) B8() Operand  { return vector(v, "8b") }
func (v V) D2() Operand  { return vector(v, "2d") }

// The register as a scalar of 128, 64, 32 and 16 bits.
func (v V) Q() Operand { return scalar("q", int(v)) }
func (v V) D() Operand { return scalar("d", int(v)) }
func (v V) S() Operand { return scalar("s", int(v)) }
func (v V) H() Operand { return scalar("h", int(v)) }

// S0 is the lowest 32-bit lane.
func (v V) S0() Operand { return Operand{fmt.Sprintf("v%d.s[0]", v), "s[0]", int(v)} }

// R is a general register, R0 to R17 in Go's assembler.
type R int

// String names the register as Go does.
func (r R) String() string { return fmt.Sprintf("R%d", int(r)) }

// X and W are the register's 64 and 32 bits.
func (r R) X() Operand { return scalar("x", int(r)) }
func (r R) W() Operand { return scalar("w", int(r)) }

// Post addresses r, which then moves on by step.
func (r R) Post(step int) []Operand {
	return []Operand{{fmt.Sprintf("[x%d], #%d", r, step), "[x],#", int(r)}, {"", "", step}}
}

// Pair is a list of two registers that follow each other.
func Pair(a, b V) Operand {
	if b != a+1 {
		panic(fmt.Sprintf("arm64: v%d and v%d do not follow each other", a, b))
	}
	return Operand{fmt.Sprintf("{v%d.16b, v%d.16b}", a, b), "{16b,16b}", int(a)}
}

// Imm is an immediate number.
func Imm(n int) Operand { return Operand{fmt.Sprintf("#%d", n), "#", n} }

// High8 shifts the immediate before it into the high byte.
var High8 = Operand{"lsl #8", "lsl8", 8}

// Operand is a part of an instruction: its text, its kind in the keys of the
// table, and the number that is encoded.
type Operand struct {
	text, kind string
	value      int
}

func vector(v V, arrangement string) Operand {
	return Operand{fmt.Sprintf("v%d.%s", v, arrangement), arrangement, int(v)}
}

func scalar(kind string, n int) Operand { return Operand{fmt.Sprintf("%s%d", kind, n), kind, n} }
