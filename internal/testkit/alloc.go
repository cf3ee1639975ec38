package testkit

import (
	"runtime/metrics"
	"testing"
)

// Allocated is how many bytes f asks the heap for, freed or not; what other
// goroutines ask for meanwhile counts too.
func Allocated(f func()) uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	before := s[0].Value.Uint64()
	f()
	metrics.Read(s)
	return s[0].Value.Uint64() - before
}

// AllocatesWithin fails a test where f asks the heap for more than factor bytes
// for each byte of its input, and c more. Length fields that are believed, and
// work that grows faster than what it is given, are found in this way.
func AllocatesWithin(tb testing.TB, input, factor, c int, f func()) {
	tb.Helper()
	got := Allocated(f)
	if most := uint64(input)*uint64(factor) + uint64(c); got > most {
		// Other goroutines may have allocated: what is wrong stays wrong.
		if got = min(got, Allocated(f)); got > most {
			tb.Fatalf("%d bytes are allocated for an input of %d; at most %d times its size and %d are allowed", got, input, factor, c)
		}
	}
}

// GobRoom is what package gob may allocate for a few bytes: it believes lengths
// up to 10 MiB, that of a message and those of slices within slices.
const GobRoom = 64 << 20
