package emit

import (
	"encoding/binary"
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Go's assembler does not know AMX. These are the encodings of Intel's Software
// Developer's Manual, volume 2: a three-byte VEX prefix with the map 0F 38, W and
// L zero. They take general registers by number, so that a kernel with them
// chooses its registers itself.

// Tile is a tile register, TMM0 … TMM7.
type Tile byte

// The prefixes of the instructions.
const (
	none = iota // NP
	p66
	pF3
	pF2
)

// TileRows is the memory operand of a tile: 16 rows from base+disp on, stride bytes
// apart.
type TileRows struct {
	Base, Stride reg.GPPhysical
	Disp         int8
}

// TileAt makes a memory operand.
func TileAt(base, stride reg.GPPhysical, disp int8) TileRows { return TileRows{base, stride, disp} }

// vex makes prefix and opcode; r, x and b are the high bits of the registers in
// ModRM.reg, index and base, v the register that is named in the prefix.
func vex(pp, opcode, r, x, b, v byte) []byte {
	return []byte{0xc4, (r^1)<<7 | (x^1)<<6 | (b^1)<<5 | 2, (^v&15)<<3 | pp, opcode}
}

func number(r reg.GPPhysical) byte { return byte(reg.ToPhysical(r).PhysicalIndex()) }

// sib encodes an instruction with a tile and rows in memory.
func sib(pp byte, t Tile, m TileRows) []byte {
	base, index := number(m.Base), number(m.Stride)
	if index == 4 {
		panic("SP cannot be an index")
	}
	out := vex(pp, 0x4b, 0, index>>3, base>>3, 0)
	mod := byte(0)
	if m.Disp != 0 || base&7 == 5 { // BP and R13 need a displacement
		mod = 1
	}
	out = append(out, mod<<6|byte(t)<<3|4, (index&7)<<3|base&7)
	if mod == 1 {
		out = append(out, byte(m.Disp))
	}
	return out
}

func encodeLoad(t Tile, m TileRows) []byte  { return sib(pF2, t, m) }
func encodeStore(t Tile, m TileRows) []byte { return sib(pF3, t, m) }
func encodeZero(t Tile) []byte              { return append(vex(pF2, 0x49, 0, 0, 0, 0), 0xc0|byte(t)<<3) }
func encodeRelease() []byte                 { return append(vex(none, 0x49, 0, 0, 0, 0), 0xc0) }
func encodeInt8(sum, a, b Tile) []byte      { return tileProduct(pF2, 0x5e, sum, a, b) }
func encodeBF16(sum, a, b Tile) []byte      { return tileProduct(pF3, 0x5c, sum, a, b) }
func tileProduct(pp, op byte, sum, a, b Tile) []byte {
	return append(vex(pp, op, 0, 0, 0, byte(b)), 0xc0|byte(sum)<<3|byte(a))
}

// encodeConfig takes a base that needs no SIB byte and no displacement.
func encodeConfig(base reg.GPPhysical) []byte {
	n := number(base)
	if n&7 == 4 || n&7 == 5 {
		panic("not a base for the configuration")
	}
	return append(vex(none, 0x49, 0, 0, n>>3, 0), n&7)
}

// put emits an instruction as data, with what it says as a comment.
func put(text string, code []byte) {
	Comment(text)
	for len(code) > 0 {
		var op string
		var imm operand.Op
		switch {
		case len(code) >= 4:
			op, imm = "LONG", operand.U32(binary.LittleEndian.Uint32(code))
			code = code[4:]
		case len(code) >= 2:
			op, imm = "WORD", operand.U16(binary.LittleEndian.Uint16(code))
			code = code[2:]
		default:
			op, imm = "BYTE", operand.U8(code[0])
			code = code[1:]
		}
		Instruction(&ir.Instruction{Opcode: op, Operands: []operand.Op{imm}})
	}
}

func (m TileRows) String() string {
	return fmt.Sprintf("%d(%s)(%s*1)", m.Disp, m.Base.Asm(), m.Stride.Asm())
}

// TileLoad and the functions after it emit the instructions, operands in Go's order: what is written comes last.
func TileLoad(m TileRows, t Tile)  { put(fmt.Sprintf("TILELOADD %v, TMM%d", m, t), encodeLoad(t, m)) }
func TileStore(t Tile, m TileRows) { put(fmt.Sprintf("TILESTORED TMM%d, %v", t, m), encodeStore(t, m)) }
func TileZero(t Tile)              { put(fmt.Sprintf("TILEZERO TMM%d", t), encodeZero(t)) }
func TileRelease()                 { put("TILERELEASE", encodeRelease()) }
func TileConfig(base reg.GPPhysical) {
	put(fmt.Sprintf("LDTILECFG (%s)", base.Asm()), encodeConfig(base))
}
func TileInt8(b, a, sum Tile) {
	put(fmt.Sprintf("TDPBSSD TMM%d, TMM%d, TMM%d", b, a, sum), encodeInt8(sum, a, b))
}
func TileBF16(b, a, sum Tile) {
	put(fmt.Sprintf("TDPBF16PS TMM%d, TMM%d, TMM%d", b, a, sum), encodeBF16(sum, a, b))
}
