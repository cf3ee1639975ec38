//go:build !purego

package kernel

import (
	"encoding/binary"
	"math"
	"testing"
	"unsafe"

	xcpu "golang.org/x/sys/cpu"

	"github.com/glmconv/glmconv/internal/cpu"
	"github.com/glmconv/glmconv/quant/numeric"
)

// needTiles skips without AMX tiles; with AVX-512 alone (and VBMI, which every processor
// with tiles has and what is around them uses) their kernels are plain Go
// for the test, so that what is around them is tested: cuts, layouts, fills, scales.
func needTiles(t testing.TB) {
	t.Helper()
	switch {
	case tiled:
	case raced:
		t.Skip("*** no AMX tiles here, and emulated they are too slow under the race detector: NOT tested ***")
	case cpu.Current() >= cpu.AVX512 && xcpu.X86.HasAVX512VBMI:
		t.Log("no AMX tiles here: their kernels are emulated, and NOT tested themselves")
		emulateTiles(t)
	default:
		t.Skip("*** no AVX-512 with VBMI here, or GLMCONV_CPU takes it away: products on matrix tiles are NOT tested ***")
	}
}

// emulateTiles computes what the kernels of internal/asm/amx do in plain Go until
// the test ends.
func emulateTiles(t testing.TB) {
	ints, bf16, float := amxInt8, amxBF16, amxFloat
	t.Cleanup(func() { tiled, amxInt8, amxBF16, amxFloat = false, ints, bf16, float })
	for n := range 2 {
		amxInt8[n], amxBF16[n], amxFloat[n] = emulated(n+1, 1, stepInt8), emulated(n+1, 1, stepBF16), emulated(n+1, 3, stepBF16)
	}
	tiled = true
}

// step adds a step of a row of weights and of a token, 64 bytes of each, to a sum of
// 4 bytes.
type step func(sum uint32, w, x *[64]byte) uint32

// emulated is a kernel for n·16 tokens a block.
func emulated(n, terms int, add step) amxKernel {
	return func(c *byte, ldc, nextc int, w *byte, ldw int, x *byte, ldx, nextx, blocks, groups, steps, onto int, _ *byte, _ int, shape *[64]byte) {
		at := func(p *byte, off int) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(p), off) }
		columns := int(shape[16]) / 4
		for j := range 16 * n * blocks {
			for s := 0; s < groups*steps && j%16 < columns; s++ {
				for term := range terms {
					var token [64]byte
					for word := range 16 {
						copy(token[4*word:], (*[4]byte)(at(x, j/16*nextx+(s*terms+term)*16*ldx+word*ldx+4*(j%16)))[:])
					}
					for i := range amxPanel {
						sum := (*uint32)(at(c, s/steps*nextc+i*ldc+4*j))
						if onto == 0 && s%steps == 0 && term == 0 {
							*sum = 0
						}
						*sum = add(*sum, (*[64]byte)(at(w, i*ldw+64*s)), &token)
					}
				}
			}
		}
	}
}

func stepInt8(sum uint32, w, x *[64]byte) uint32 {
	for k := range w {
		sum += uint32(int32(int8(w[k])) * int32(int8(x[k])))
	}
	return sum
}

func stepBF16(sum uint32, w, x *[64]byte) uint32 {
	var ws, xs [32]float32
	for k := range ws {
		ws[k], xs[k] = numeric.BF16ToF32(binary.LittleEndian.Uint16(w[2*k:])), numeric.BF16ToF32(binary.LittleEndian.Uint16(x[2*k:]))
	}
	return math.Float32bits(tileChain(math.Float32frombits(sum), xs[:], ws[:]))
}
