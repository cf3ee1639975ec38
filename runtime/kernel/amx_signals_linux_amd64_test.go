//go:build !purego

package kernel

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/numeric"
)

// TestTilesUnderSignals: signals, preemption and collections come while more
// goroutines than threads have tiles in use; the sums stay what they were.
func TestTilesUnderSignals(t *testing.T) {
	if !tiled {
		t.Skip("*** no AMX tiles here, or GLMCONV_CPU takes them away: their kernels are NOT tested under signals ***")
	}
	r := rand.New(rand.NewPCG(9, 9))
	const m, n, k = 40, 96, 512
	w, x := matrix(r, numeric.Int8, n, k, 1, k), normals(r, m*k)
	raw := numeric.AppendBF16(nil, normals(r, n*k))
	compute := func() (a, b []float32) {
		a, b = make([]float32, m*n), make([]float32, m*n)
		require.True(t, tilesInt8(a, n, QuantizeInt8(x, m, k, 127, nil), w, nil))
		require.True(t, tilesFloat(b, n, &FloatRows{M: m, K: k, X: x}, BF16, raw, n, nil))
		return a, b
	}
	wantA, wantB := compute()
	var stop atomic.Bool
	var noise, work sync.WaitGroup
	noise.Go(func() {
		for i := 0; !stop.Load(); i++ {
			_ = syscall.Kill(syscall.Getpid(), []syscall.Signal{syscall.SIGURG, syscall.SIGPROF}[i%2])
			if i%500 == 0 {
				runtime.GC()
			}
		}
	})
	var wrong atomic.Int64
	for range 4 * runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for range 100 {
				a, b := compute()
				for i := range a {
					if a[i] != wantA[i] || b[i] != wantB[i] {
						wrong.Add(1)
					}
				}
			}
		})
	}
	work.Wait()
	stop.Store(true)
	noise.Wait()
	require.Zero(t, wrong.Load())
}
