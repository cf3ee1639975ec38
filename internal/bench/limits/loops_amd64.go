//go:build !purego

package limits

import (
	"unsafe"

	"github.com/glmconv/glmconv/internal/cpu"
)

func loops() (out []loop) {
	if cpu.Current() >= cpu.AVX2 {
		out = append(out, loop{FMAAVX2, 12 * 8, fmaAVX2}, loop{Int8AVX2, 10 * 32, maddubsAVX2}, loop{ExactAVX2, 10 * 16, maddwdAVX2})
	}
	if cpu.Current() >= cpu.AVX512 {
		out = append(out, loop{FMAAVX512, 24 * 16, fmaAVX512}, loop{Int8AVX512, 24 * 64, vnniAVX512})
	}
	if cpu.Current() >= cpu.AMX {
		shape := [64]byte{0: 1} // the palette; all tiles are 16 rows of 64 bytes
		for t := range 8 {
			shape[16+2*t], shape[48+t] = 64, 16
		}
		out = append(out, loop{Int8AMX, 4 * 16 * 16 * 64, func(n int) { int8AMX(n, &shape) }},
			loop{BF16AMX, 4 * 16 * 16 * 32, func(n int) { bf16AMX(n, &shape) }})
	}
	return out
}

// read passes over p, whose length is a multiple of 512.
func read(p []byte) uint64 {
	if cpu.Current() < cpu.AVX2 {
		return readGo(p)
	}
	return readAVX2(&p[0], len(p))
}

// stream reads src and writes dst of half its length, a multiple of 128.
func stream(dst, src []byte) {
	if cpu.Current() < cpu.AVX2 || uintptr(unsafe.Pointer(&dst[0]))%32 != 0 {
		streamGo(dst, src)
		return
	}
	streamAVX2(&dst[0], &src[0], len(dst))
}
