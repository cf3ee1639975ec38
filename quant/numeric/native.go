package numeric

import (
	"encoding/binary"
	"unsafe"
)

// native says that numbers lie in memory as they do in files.
var native = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// bytesOf are the bytes of values in memory.
func bytesOf(x []float32) []byte {
	if len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
}

// FloatsIn are the values that bytes are in memory, nil where they do not lie as
// values do.
func FloatsIn(b []byte) []float32 {
	if !native || len(b) == 0 || uintptr(unsafe.Pointer(&b[0]))%4 != 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
}
