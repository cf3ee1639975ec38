package cpu

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		arch string
		want string
		have Level
		got  Level
		err  string
	}{
		{"amd64", "", AVX512, AVX512, ""},
		{"amd64", "", PureGo, PureGo, ""},
		{"amd64", "avx2", AVX512, AVX2, ""},
		{"amd64", "purego", AVX512, PureGo, ""},
		{"amd64", "avx512", AVX2, AVX2, "has avx2 at most"},
		{"amd64", "avx512", AMX, AVX512, ""},
		{"amd64", "amx", AMX, AMX, ""},
		{"amd64", "amx", AVX512, AVX512, "has avx512 at most"},
		{"amd64", "sse", AVX2, AVX2, "the choices are purego, avx2, avx512, amx"},
		{"amd64", "neon", AVX512, AVX512, "the choices are purego, avx2, avx512, amx"},
		{"arm64", "", NEON, NEON, ""},
		{"arm64", "neon", NEON, NEON, ""},
		{"arm64", "purego", NEON, PureGo, ""},
		{"arm64", "neon", PureGo, PureGo, "has purego at most"},
		{"arm64", "avx2", NEON, NEON, "the choices are purego, neon"},
		{"riscv64", "purego", PureGo, PureGo, ""},
	} {
		got, err := choose(c.want, levels(c.arch), c.have)
		assert.Equal(t, c.got, got, c.want)
		if c.err == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, c.err)
		}
	}
}
