package layout

import (
	"encoding/binary"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// NonFinite tells whether stored floats have an exponent of all ones: NaN or
// infinity. Of types other than BF16, F16 and F32 it says false.
func NonFinite(raw []byte, t safetensors.DType) bool {
	var mask, one uint64 // the exponents of four or two of them; what carries from a full one
	switch t {
	case safetensors.BF16:
		mask, one = 0x7f807f807f807f80, 0x0080008000800080
		done, found := numeric.NonFiniteBF16(raw)
		if found {
			return true
		}
		raw = raw[done:]
	case safetensors.F16:
		mask, one = 0x7c007c007c007c00, 0x0400040004000400
	case safetensors.F32:
		mask, one = 0x7f8000007f800000, 0x0080000000800000
	default:
		return false
	}
	carried := mask + one // the sign bits, where all exponents are full
	for ; len(raw) >= 32; raw = raw[32:] {
		w := (*[32]byte)(raw)
		a, b := binary.LittleEndian.Uint64(w[:8])&mask+one, binary.LittleEndian.Uint64(w[8:16])&mask+one
		c, d := binary.LittleEndian.Uint64(w[16:24])&mask+one, binary.LittleEndian.Uint64(w[24:])&mask+one
		if (a|b|c|d)&carried != 0 {
			return true
		}
	}
	for ; len(raw) >= 8; raw = raw[8:] {
		if (binary.LittleEndian.Uint64(raw)&mask+one)&carried != 0 {
			return true
		}
	}
	var rest [8]byte
	copy(rest[:], raw)
	return (binary.LittleEndian.Uint64(rest[:])&mask+one)&carried != 0
}
