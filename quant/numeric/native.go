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
