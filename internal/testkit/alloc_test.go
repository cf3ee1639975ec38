package testkit

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// kept keeps the compiler from leaving allocations out.
var kept []byte

func TestAllocated(t *testing.T) {
	got := Allocated(func() { kept = make([]byte, 1<<20) })
	require.GreaterOrEqual(t, got, uint64(1<<20))
	require.Less(t, got, uint64(2<<20))
}

// failing records that a test would have failed.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Helper()               {}
func (f *failing) Fatalf(string, ...any) { f.failed = true }

func TestAllocatesWithin(t *testing.T) {
	for name, c := range map[string]struct {
		make int
		want bool
	}{"within": {1 << 16, false}, "beyond": {8 << 20, true}} {
		t.Run(name, func(t *testing.T) {
			f := &failing{TB: t}
			AllocatesWithin(f, 1000, 100, 1<<20, func() { kept = make([]byte, c.make) })
			require.Equal(t, c.want, f.failed)
		})
	}
}
