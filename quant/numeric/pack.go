package numeric

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// SignExtend4 returns the value of a two's complement nibble.
func SignExtend4(n byte) int8 { return int8(n<<4) >> 4 }

// PackNibbles packs int4 values (one per byte, two's complement) row by row
// into Matrix form: even column in the low nibble. A last odd column is padded
// with zero. len(q) = rows·cols; the result has rows·((cols+1)/2) bytes
// appended to dst.
func PackNibbles(dst []byte, q []byte, cols int) []byte {
	for ; len(q) >= cols && cols > 0; q = q[cols:] {
		row := q[:cols]
		n := len(dst)
		dst = slices.Grow(dst, (cols+1)/2)
		c := packNibblesVector(dst[n:n+(cols+1)/2], row)
		dst = dst[:n+c/2]
		for ; c+1 < cols; c += 2 {
			dst = append(dst, row[c]&15|row[c+1]<<4)
		}
		if c < cols {
			dst = append(dst, row[c]&15)
		}
	}
	return dst
}

// UnpackNibbles appends the int4 values of Matrix rows as one two's complement
// byte each.
func UnpackNibbles(dst []byte, packed []byte, cols int) []byte {
	rowBytes := (cols + 1) / 2
	if rowBytes == 0 {
		return dst
	}
	n, rows := len(dst), len(packed)/rowBytes
	dst = slices.Grow(dst, rows*cols+1)[:n+rows*cols]
	if cols%2 == 0 {
		UnpackInt4(dst[n:], packed[:rows*rowBytes])
		return dst
	}
	for r := range rows { // the last byte of a row has one value
		at := dst[n+r*cols : n+(r+1)*cols]
		UnpackInt4(at, packed[r*rowBytes:][:rowBytes-1])
		at[cols-1] = byte(SignExtend4(packed[(r+1)*rowBytes-1] & 15))
	}
	return dst
}

// UnpackInt4 writes the 2·len(src) int4 values of src, the first in the low half
// of a byte, to dst as one two's complement byte each.
func UnpackInt4(dst, src []byte) {
	_ = dst[:2*len(src)]
	for i := unpackNibblesVector(dst, src); i < len(src); i++ {
		dst[2*i], dst[2*i+1] = byte(SignExtend4(src[i]&15)), byte(SignExtend4(src[i]>>4))
	}
}

// spread gives each of eight nibbles a byte of its own.
func spread(n uint32) uint64 {
	x := uint64(n)
	x = (x | x<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	return (x | x<<4) & 0x0f0f0f0f0f0f0f0f
}

// AppendInt8Words appends rows of int8 codes in the same form: unsigned codes
// q+128, four to a little-endian 32-bit word, a last partial word padded with
// zeros.
func AppendInt8Words(dst []byte, codes []byte, cols int) []byte {
	for ; len(codes) >= cols && cols > 0; codes = codes[cols:] {
		for _, q := range codes[:cols] {
			dst = append(dst, q^0x80)
		}
		for n := cols; n%4 != 0; n++ {
			dst = append(dst, 0)
		}
	}
	return dst
}

// AppendInt4Words appends Matrix rows of int4 codes in the compressed-tensors
// pack-quantized form: unsigned codes q+8, eight to a little-endian 32-bit word
// along the input, element 0 in the lowest nibble, a last partial word padded
// with zero bits (compressed_tensors pack_quantized/helpers.py).
func AppendInt4Words(dst []byte, packed []byte, cols int) []byte {
	rowBytes := (cols + 1) / 2
	if cols%8 == 0 { // the same nibbles, q+8 flips the sign bit of each
		n := len(packed) / 4 * 4
		dst = slices.Grow(dst, n)
		out, i := dst[len(dst):len(dst)+n], 0
		for ; i+8 <= n; i += 8 {
			binary.LittleEndian.PutUint64(out[i:], binary.LittleEndian.Uint64(packed[i:])^0x8888888888888888)
		}
		for ; i < n; i++ {
			out[i] = packed[i] ^ 0x88
		}
		return dst[:len(dst)+n]
	}
	for ; len(packed) >= rowBytes && rowBytes > 0; packed = packed[rowBytes:] {
		for c := 0; c < cols; c += 8 {
			var w uint32
			for k := 0; k < 8 && c+k < cols; k++ {
				n := packed[(c+k)/2] >> (4 * ((c + k) & 1)) & 15
				w |= uint32(n^8) << (4 * k) // q+8 flips the sign bit of the nibble
			}
			dst = binary.LittleEndian.AppendUint32(dst, w)
		}
	}
	return dst
}

// FirstOutsideInt4 returns the index of the first code, a byte each, that is not
// within [-8, 7], or len(q).
func FirstOutsideInt4(q []byte) int {
	i := 0
	for ; i+8 <= len(q); i += 8 { // plus 8 in every byte: the upper half of a good one is 0
		v := binary.LittleEndian.Uint64(q[i:])
		if ((v&0x7f7f7f7f7f7f7f7f+0x0808080808080808)^v&0x8080808080808080)&0xf0f0f0f0f0f0f0f0 != 0 {
			break
		}
	}
	for ; i < len(q); i++ {
		if v := int8(q[i]); v < -8 || v > 7 {
			break
		}
	}
	return i
}

// Int4FromWords is the inverse of AppendInt4Words: words has rows of
// ceil(cols/8) little-endian 32-bit words; Matrix rows are appended to dst.
func Int4FromWords(dst []byte, words []byte, cols int) ([]byte, error) {
	rowWords := (cols + 7) / 8 * 4
	if rowWords == 0 || len(words)%rowWords != 0 {
		return nil, fmt.Errorf("numeric: %d bytes are not rows of %d packed columns", len(words), cols)
	}
	if cols%8 == 0 { // bytes in the same order, codes without the offset of 8
		n := len(dst)
		dst = slices.Grow(dst, len(words))[:n+len(words)]
		out := dst[n:]
		i := 0
		for ; i+8 <= len(words); i += 8 {
			binary.LittleEndian.PutUint64(out[i:], binary.LittleEndian.Uint64(words[i:])^0x8888888888888888)
		}
		for ; i < len(words); i++ {
			out[i] = words[i] ^ 0x88
		}
		return dst, nil
	}
	for ; len(words) > 0; words = words[rowWords:] {
		for c := 0; c < cols; c += 2 {
			w := binary.LittleEndian.Uint32(words[c/8*4:])
			b := byte(w>>(4*(c%8))&15) ^ 8
			if c+1 < cols {
				b |= (byte(w>>(4*((c+1)%8))&15) ^ 8) << 4
			}
			dst = append(dst, b)
		}
	}
	return dst, nil
}

// AppendInt4RowPairs appends Matrix rows of int4 codes in the Ascend form
// [N/2, K]: byte k of pair j is q[2j+1,k]<<4 | q[2j,k]&15
// (docs/facts/ascend.md 2.5, msmodelslim utils/pack.py). The number of rows must
// be even.
func AppendInt4RowPairs(dst []byte, packed []byte, cols int) ([]byte, error) {
	rowBytes := (cols + 1) / 2
	if rowBytes == 0 || len(packed)%(2*rowBytes) != 0 {
		return nil, fmt.Errorf("numeric: an odd number of rows cannot be packed in pairs")
	}
	for ; len(packed) > 0; packed = packed[2*rowBytes:] {
		lo, hi := packed[:rowBytes], packed[rowBytes:2*rowBytes]
		c := 0
		for ; c+8 <= cols; c += 8 {
			l, h := binary.LittleEndian.Uint32(lo[c/2:]), binary.LittleEndian.Uint32(hi[c/2:])
			dst = binary.LittleEndian.AppendUint64(dst, spread(l)|spread(h)<<4)
		}
		for ; c < cols; c++ {
			shift := 4 * (c & 1)
			dst = append(dst, lo[c/2]>>shift&15|hi[c/2]>>shift<<4)
		}
	}
	return dst, nil
}

// Int4FromRowPairs is the inverse of AppendInt4RowPairs: pairs is [N/2, K];
// Matrix rows are appended to dst.
func Int4FromRowPairs(dst []byte, pairs []byte, cols int) ([]byte, error) {
	if cols <= 0 || len(pairs)%cols != 0 {
		return nil, fmt.Errorf("numeric: %d bytes are not row pairs of %d columns", len(pairs), cols)
	}
	for ; len(pairs) > 0; pairs = pairs[cols:] {
		for shift := 0; shift <= 4; shift += 4 {
			c := 0
			for ; c+8 <= cols; c += 8 { // eight nibbles come together
				v := binary.LittleEndian.Uint64(pairs[c:]) >> shift & 0x0f0f0f0f0f0f0f0f
				v = (v | v>>4) & 0x00ff00ff00ff00ff
				v = (v | v>>8) & 0x0000ffff0000ffff
				dst = binary.LittleEndian.AppendUint32(dst, uint32(v|v>>16))
			}
			for ; c < cols; c += 2 {
				b := pairs[c] >> shift & 15
				if c+1 < cols {
					b |= pairs[c+1] >> shift << 4
				}
				dst = append(dst, b)
			}
		}
	}
	return dst, nil
}

// ScaleBias returns the correction 8·Σ q·s that the Ascend W4A8 kernel adds
// for its split of activations into two halves: for every row, parts sums over
// equal slices of the columns (1 for gate and up, 16 for down;
// docs/facts/ascend.md 2.5). m is int4 with one scale a row; parts must divide
// the columns. The result is [Rows, parts], row-major.
func ScaleBias(m *Matrix, parts int) ([]float32, error) {
	if m.Code != Int4 || m.ScaleCols() != 1 || m.BlockRows != 1 {
		return nil, fmt.Errorf("numeric: scale bias needs int4 codes with one scale a row")
	}
	if parts <= 0 || m.Cols%parts != 0 {
		return nil, fmt.Errorf("numeric: %d columns do not split into %d parts", m.Cols, parts)
	}
	out := make([]float32, 0, m.Rows*parts)
	width := m.Cols / parts
	for r := range m.Rows {
		row := m.Codes[r*m.RowBytes():][:m.RowBytes()]
		for p := range parts {
			sum, c, end := 0, p*width, (p+1)*width
			for ; width%16 == 0 && c < end; c += 16 { // nibbles q+8, summed two by two
				v := binary.LittleEndian.Uint64(row[c/2:]) ^ 0x8888888888888888
				v = v&0x0f0f0f0f0f0f0f0f + v>>4&0x0f0f0f0f0f0f0f0f
				sum += int(v*0x0101010101010101>>56) - 16*8
			}
			for ; c < end; c++ {
				sum += int(SignExtend4(row[c/2] >> (4 * (c & 1)) & 15))
			}
			out = append(out, float32(8*float64(sum)*float64(m.Scales[r])))
		}
	}
	return out, nil
}
