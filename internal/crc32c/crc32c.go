// Package crc32c takes CRC-32C checksums of pieces and joins them: goroutines
// that read parts of a file in any order give the checksum of the whole.
//
//	a, b := crc32c.Sum(first), crc32c.Sum(second)
//	whole := crc32c.Combine(a, b, int64(len(second))) // == crc32c.Sum(first‖second)
//
// CRC-32C is the Castagnoli polynomial of RFC 3720, 12.1. Combine multiplies
// by x^(8·n) modulo the polynomial, as zlib's crc32_combine does.
package crc32c

import "hash/crc32"

// reversed is the Castagnoli polynomial, the lowest power in the highest bit.
const reversed = crc32.Castagnoli

var table = crc32.MakeTable(crc32.Castagnoli)

// Sum returns the CRC-32C of p.
func Sum(p []byte) uint32 { return crc32.Checksum(p, table) }

// Update returns the CRC-32C of what crc stands for, with p behind it.
func Update(crc uint32, p []byte) uint32 { return crc32.Update(crc, table, p) }

// Combine returns the CRC-32C of two pieces, one behind the other, from that of
// each; n is the length of the second one in bytes.
func Combine(first, second uint32, n int64) uint32 {
	shift := uint32(1) << 31 // x^0
	for k := 3; n > 0; k++ { // 8 bits a byte: 2^3
		if n&1 != 0 {
			shift = multiply(powers[k], shift)
		}
		n >>= 1
	}
	return multiply(shift, first) ^ second
}

// powers[k] is x^(2^k) modulo the polynomial.
var powers = func() (p [3 + 64]uint32) {
	p[0] = 1 << 30 // x^1
	for k := 1; k < len(p); k++ {
		p[k] = multiply(p[k-1], p[k-1])
	}
	return p
}()

// multiply returns a·b modulo the polynomial.
func multiply(a, b uint32) (product uint32) {
	for m := uint32(1) << 31; m != 0; m >>= 1 {
		if a&m != 0 {
			product ^= b
		}
		b = b>>1 ^ reversed&-(b&1)
	}
	return product
}
