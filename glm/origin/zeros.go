package origin

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// page is the unit in which file systems leave holes.
const page = 4096

// ZeroBytes returns how many bytes of p lie in pages of 4096 bytes, counted
// from its start, that hold nothing but zeros; what is left at the end counts
// as a page. A page that holds something costs one comparison.
func ZeroBytes(p []byte) (n int64) {
	for len(p) > 0 {
		k := min(page, len(p))
		if allZero(p[:k]) {
			n += int64(k)
		}
		p = p[k:]
	}
	return n
}

func allZero(p []byte) bool {
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// Zeros judges how much of a tensor lies in pages of zeros: whole is a tensor
// of zeros alone, region a part that is as large as a hole which an unfinished
// download leaves. Biases may be zero; embedding and head have zero rows where
// the vocabulary is padded; codes are zero where a row has one large weight.
func Zeros(row *glm.Tensor, zero, total int64, codes bool) (whole, region bool) {
	switch {
	case total == 0 || zero == 0 || row.Param == "bias" || row.Role == glm.RouterBias:
		return false, false
	case zero == total:
		return true, false
	}
	switch row.Role {
	case glm.Embedding, glm.Head, glm.MTPEmbedding, glm.MTPHead, glm.VisionPosEmbd:
		return false, zero >= max(page, total/4)
	}
	if codes {
		return false, zero >= 4*page
	}
	return false, zero >= page
}

// SayZeros puts it into words.
func SayZeros(zero, total int64) string {
	if zero == total {
		return fmt.Sprintf("it holds nothing but zeros (%d bytes)", total)
	}
	return fmt.Sprintf("%d of its %d bytes are zero, in whole pages: the look of a hole that an unfinished download leaves", zero, total)
}

// LayerName is the name of a tensor of a layer without the layer's number: what
// the tensors of one place in all layers have in common.
func LayerName(row *glm.Tensor) string {
	return strings.Replace(row.Name, "."+strconv.Itoa(row.Layer)+".", ".*.", 1)
}

// Few reports whether so few of all layers are alike in something, and so many
// are not, that the few are damaged: one, or up to a quarter, beside two sound
// ones at least.
func Few(odd, all int) bool {
	return odd > 0 && all-odd >= 2 && (odd == 1 || 4*odd <= all)
}
