// Package bytesum takes one checksum of bytes that goroutines read in pieces and
// in any order: checksums of pieces are added.
//
//	sum := bytesum.Rows("a.weight", 0, rowSize, first) // bytes from 0 on
//	sum += bytesum.Rows("a.weight", int64(len(first)), rowSize, second)
//
// The sum is that of XXH3 with 64 bits over every row, seeded by the tensor's
// name and the row's number; it does not depend on how rows are grouped into
// pieces. It notices bytes that changed by accident; it is no proof against
// somebody who looks for two inputs with the same sum (SHA-256 is).
package bytesum

import (
	"fmt"

	"github.com/zeebo/xxh3"
)

// Rows returns the checksum of p, which lies at byte off of a tensor and holds
// whole rows of rowSize bytes. Bytes that are no whole rows, or of a tensor
// without rows (rowSize 0), count as one row that begins at off.
func Rows(tensor string, off, rowSize int64, p []byte) (sum uint64) {
	seed := xxh3.HashString(tensor)
	if rowSize <= 0 || off%rowSize != 0 || int64(len(p))%rowSize != 0 {
		if len(p) == 0 {
			return 0
		}
		return xxh3.HashSeed(p, seed+uint64(off))
	}
	for at := int64(0); at < int64(len(p)); at += rowSize {
		sum += xxh3.HashSeed(p[at:at+rowSize], seed+uint64(off+at))
	}
	return sum
}

// String writes a sum as receipts and manifests hold it: 16 hexadecimal digits.
func String(sum uint64) string { return fmt.Sprintf("%016x", sum) }

// Parse reads what String wrote.
func Parse(s string) (sum uint64, ok bool) {
	n, err := fmt.Sscanf(s, "%016x", &sum)
	return sum, n == 1 && err == nil && String(sum) == s
}
