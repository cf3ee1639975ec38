package cpu

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		want string
		have Level
		got  Level
		err  string
	}{
		{"", AVX512, AVX512, ""},
		{"", PureGo, PureGo, ""},
		{"avx2", AVX512, AVX2, ""},
		{"purego", AVX512, PureGo, ""},
		{"avx512", AVX2, AVX2, "has avx2 at most"},
		{"sse", AVX2, AVX2, "the choices are"},
	} {
		got, err := choose(c.want, c.have)
		assert.Equal(t, c.got, got, c.want)
		if c.err == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, c.err)
		}
	}
}
