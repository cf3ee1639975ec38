package rss

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRun: a child is not charged for the memory of its parent.
func TestRun(t *testing.T) {
	if os.Getenv("GLMCONV_RSS_CHILD") != "" {
		hold(32 << 20)
		return
	}
	hold(256 << 20)
	if runtime.GOOS == "linux" {
		assert.Greater(t, Self(), int64(256<<20))
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestRun$")
	cmd.Env = append(os.Environ(), "GLMCONV_RSS_CHILD=1")
	peak, err := Run(cmd)
	require.NoError(t, err)
	if runtime.GOOS == "linux" {
		assert.Greater(t, peak, int64(32<<20))
		assert.Less(t, peak, int64(200<<20))
	}
	_, err = Run(exec.Command("/no such program"))
	assert.Error(t, err)
	_, err = Run(exec.Command(os.Args[0], "-test.nonsense"))
	assert.Error(t, err)
}

func hold(n int) {
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	runtime.KeepAlive(b)
}
