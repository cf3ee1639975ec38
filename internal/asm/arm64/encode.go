package arm64

import (
	"fmt"
	"strings"
)

// field places the number of an operand in an instruction.
type field struct {
	name     string
	shift    int
	min, max int
	code     func(int) int // nil: as it is
}

func register(name string, shift int) field { return field{name: name, shift: shift, max: 31} }

// scaled is an offset in units of its unit, signed.
func scaled(shift, bits, unit int) field {
	return field{"offset", shift, -unit << (bits - 1), unit<<(bits-1) - unit, func(n int) int {
		if n%unit != 0 {
			panic(fmt.Sprintf("arm64: offset %d is not a multiple of %d", n, unit))
		}
		return n / unit & (1<<bits - 1)
	}}
}

// The fields of immh:immb: shifts by immediates of lanes of a size in bits.
func left(size int) field {
	return field{"shift", 16, 0, size - 1, func(n int) int { return size + n }}
}

func right(size int) field {
	return field{"shift", 16, 1, size, func(n int) int { return 2*size - n }}
}

// fixed is an operand that has one value only.
func fixed(n int) field { return field{"fixed", 0, n, n, func(int) int { return 0 }} }

// octet is an immediate byte, abc:defgh.
var octet = field{"byte", 0, 0, 255, func(n int) int { return n>>5<<16 | n&31<<5 }}

var (
	rd, rn, rm, rt2 = register("Rd", 0), register("Rn", 5), register("Rm", 16), register("Rt2", 10)

	three = []field{rd, rn, rm}
	two   = []field{rd, rn}
)

type encoding struct {
	word   uint32
	fields []field // of each operand
}

// table has the instructions that there are, by mnemonic and kinds of operands.
var table = map[string]encoding{
	// Three registers of one arrangement.
	"fmul 4s,4s,4s":     {0x6e20dc00, three},
	"fadd 4s,4s,4s":     {0x4e20d400, three},
	"fsub 4s,4s,4s":     {0x4ea0d400, three},
	"fdiv 4s,4s,4s":     {0x6e20fc00, three},
	"fmax 4s,4s,4s":     {0x4e20f400, three},
	"fmin 4s,4s,4s":     {0x4ea0f400, three},
	"fabd 4s,4s,4s":     {0x6ea0d400, three},
	"fmla 4s,4s,4s":     {0x4e20cc00, three},
	"add 4s,4s,4s":      {0x4ea08400, three},
	"sub 4s,4s,4s":      {0x6ea08400, three},
	"sub 16b,16b,16b":   {0x6e208400, three},
	"umax 4s,4s,4s":     {0x6ea06400, three},
	"umax 8h,8h,8h":     {0x6e606400, three},
	"umin 4s,4s,4s":     {0x6ea06c00, three},
	"cmeq 4s,4s,4s":     {0x6ea08c00, three},
	"and 16b,16b,16b":   {0x4e201c00, three},
	"bit 16b,16b,16b":   {0x6ea01c00, three},
	"uzp1 8h,8h,8h":     {0x4e401800, three},
	"uzp1 16b,16b,16b":  {0x4e001800, three},
	"uzp2 8h,8h,8h":     {0x4e405800, three},
	"uzp2 16b,16b,16b":  {0x4e005800, three},
	"ext 16b,16b,16b,#": {0x6e000000, []field{rd, rn, rm, {"index", 11, 0, 15, nil}}},

	// Two registers.
	"fabs 4s,4s":    {0x4ea0f800, two},
	"frintn 4s,4s":  {0x4e218800, two},
	"fcvtns 4s,4s":  {0x4e21a800, two},
	"scvtf 4s,4s":   {0x4e21d800, two},
	"xtn 8b,8h":     {0x0e212800, two},
	"shll 4s,4h,#":  {0x2e613800, []field{rd, rn, fixed(16)}},
	"shll2 4s,8h,#": {0x6e613800, []field{rd, rn, fixed(16)}},
	"umaxv s,4s":    {0x6eb0a800, two},
	"umaxv h,8h":    {0x6e70a800, two},
	"faddp s,2s":    {0x7e30d800, two},
	"dup 4s,w":      {0x4e040c00, two},
	"dup 4s,s[0]":   {0x4e040400, two},
	"fmov w,s":      {0x1e260000, two},
	"fmov x,d":      {0x9e660000, two},

	// Shifts by an immediate.
	"ushr 4s,4s,#":   {0x6f000400, []field{rd, rn, right(32)}},
	"usra 4s,4s,#":   {0x6f001400, []field{rd, rn, right(32)}},
	"sshr 16b,16b,#": {0x4f000400, []field{rd, rn, right(8)}},
	"shl 16b,16b,#":  {0x4f005400, []field{rd, rn, left(8)}},
	"sli 16b,16b,#":  {0x6f005400, []field{rd, rn, left(8)}},

	// Constants.
	"movi 2d,#":     {0x6f00e400, []field{rd, fixed(0)}},
	"movi 16b,#":    {0x4f00e400, []field{rd, octet}},
	"bic 8h,#,lsl8": {0x6f00b400, []field{rd, octet, fixed(8)}},

	// Memory.
	"ldp q,q,[x],#":       {0xacc00000, []field{rd, rt2, rn, scaled(15, 7, 16)}},
	"stp q,q,[x],#":       {0xac800000, []field{rd, rt2, rn, scaled(15, 7, 16)}},
	"ldr q,[x],#":         {0x3cc00400, []field{rd, rn, scaled(12, 9, 1)}},
	"str q,[x],#":         {0x3c800400, []field{rd, rn, scaled(12, 9, 1)}},
	"ld2 {16b,16b},[x],#": {0x4cdf8000, []field{rd, rn, fixed(32)}},
	"st2 {16b,16b},[x],#": {0x4c9f8000, []field{rd, rn, fixed(32)}},
}

// Encode returns the word and the text of an instruction. It panics where the
// table does not have it or an operand does not fit: the generator is wrong.
func Encode(mnemonic string, operands ...Operand) (word uint32, text string) {
	var kinds, texts []string
	for _, o := range operands {
		if o.kind != "" {
			kinds, texts = append(kinds, o.kind), append(texts, o.text)
		}
	}
	text = mnemonic + " " + strings.Join(texts, ", ")
	e, ok := table[mnemonic+" "+strings.Join(kinds, ",")]
	if !ok || len(e.fields) != len(operands) {
		panic("arm64: no encoding of " + text)
	}
	word = e.word
	for i, f := range e.fields {
		n := operands[i].value
		if n < f.min || n > f.max {
			panic(fmt.Sprintf("arm64: %s of %s is not in [%d, %d]", f.name, text, f.min, f.max))
		}
		if f.code != nil {
			n = f.code(n)
		}
		word |= uint32(n) << f.shift
	}
	return word, text
}
