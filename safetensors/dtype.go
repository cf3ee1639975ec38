package safetensors

import "fmt"

// DType is an element type of the safetensors format. The names are those of
// the reference implementation (safetensors/src/tensor.rs, enum Dtype).
type DType uint8

// The element types the format knows. The order is the reference's ascending
// alignment order, which is also its sort key on write.
const (
	Invalid DType = iota
	Bool
	F4
	F6E2M3
	F6E3M2
	U8
	I8
	F8E5M2
	F8E4M3
	F8E8M0
	F8E4M3FNUZ
	F8E5M2FNUZ
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	C64
	F64
	I64
	U64
)

// dtypes is the one table of names and widths in bits.
var dtypes = [...]struct {
	name string
	bits int
}{
	Invalid: {"", 0}, Bool: {"BOOL", 8}, F4: {"F4", 4}, F6E2M3: {"F6_E2M3", 6}, F6E3M2: {"F6_E3M2", 6},
	U8: {"U8", 8}, I8: {"I8", 8}, F8E5M2: {"F8_E5M2", 8}, F8E4M3: {"F8_E4M3", 8}, F8E8M0: {"F8_E8M0", 8},
	F8E4M3FNUZ: {"F8_E4M3FNUZ", 8}, F8E5M2FNUZ: {"F8_E5M2FNUZ", 8},
	I16: {"I16", 16}, U16: {"U16", 16}, F16: {"F16", 16}, BF16: {"BF16", 16},
	I32: {"I32", 32}, U32: {"U32", 32}, F32: {"F32", 32}, C64: {"C64", 64}, F64: {"F64", 64}, I64: {"I64", 64}, U64: {"U64", 64},
}

// String returns the name as it stands in a header, for example "F8_E4M3".
func (d DType) String() string {
	if int(d) < len(dtypes) && d != Invalid {
		return dtypes[d].name
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// Bits returns the width of one element in bits (0 for an invalid type).
func (d DType) Bits() int {
	if int(d) < len(dtypes) {
		return dtypes[d].bits
	}
	return 0
}

// ParseDType returns the type with the given header name.
func ParseDType(name string) (DType, bool) {
	for d := Bool; int(d) < len(dtypes); d++ {
		if dtypes[d].name == name {
			return d, true
		}
	}
	return Invalid, false
}

// MarshalText writes the header name; the zero value is an error.
func (d DType) MarshalText() ([]byte, error) {
	if d == Invalid || int(d) >= len(dtypes) {
		return nil, fmt.Errorf("safetensors: invalid dtype %d", uint8(d))
	}
	return []byte(dtypes[d].name), nil
}

// UnmarshalText reads the header name.
func (d *DType) UnmarshalText(b []byte) error {
	v, ok := ParseDType(string(b))
	if !ok {
		return fmt.Errorf("safetensors: unknown dtype %q", b)
	}
	*d = v
	return nil
}
