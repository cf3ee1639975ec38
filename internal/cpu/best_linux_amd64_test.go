//go:build !purego

package cpu

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestBestIsWhatLinuxSays: the tests of vector kernels are skipped where there
// are none, and this one fails where there are and they are not found.
func TestBestIsWhatLinuxSays(t *testing.T) {
	raw, err := os.ReadFile("/proc/cpuinfo")
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^flags\s*:(.*)$`).FindSubmatch(raw)
	require.NotNil(t, m, "no flags in /proc/cpuinfo")
	flags := strings.Fields(string(m[1]))
	want := PureGo
	for _, l := range []struct {
		level Level
		needs []string
	}{
		{AVX2, []string{"avx2", "fma", "f16c", "bmi2"}},
		{AVX512, []string{"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}},
		{AMX, []string{"avx512vbmi", "amx_tile", "amx_int8", "amx_bf16"}},
	} {
		if slices.ContainsFunc(l.needs, func(f string) bool { return !slices.Contains(flags, f) }) {
			break
		}
		want = l.level
	}
	assert.Equal(t, want, best(""))
}
