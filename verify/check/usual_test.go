package check

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// usualOf is usual, value by value.
func usualOf(x float64, place []float64) (usual float64, tight bool) {
	at := slices.Index(place, x)
	others := slices.Delete(slices.Clone(place), at, at+1)
	if len(others) < 2 {
		return 0, false
	}
	usual = others[len(others)/2]
	near, close := 0, 0
	for _, v := range others {
		if v > usual/4 && v < usual*4 {
			near++
		}
		if v > usual/2 && v < usual*2 {
			close++
		}
	}
	if 2*near <= len(others) {
		return 0, false
	}
	return usual, close >= len(others)-len(others)/8
}

// TestUsual: what the others of a place have is found without a look at each of them.
func TestUsual(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tight, loose := 0, 0
	for range 2000 {
		place := make([]float64, 1+r.IntN(20))
		for i := range place {
			place[i] = float64(int(1) << r.IntN(2+r.IntN(4))) // limits and equals, too
		}
		slices.Sort(place)
		for _, v := range place {
			usual, agree := (&extent{rms: v}).usual(place)
			want, whether := usualOf(v, place)
			assert.Equal(t, want, usual, "%v of %v", v, place)
			assert.Equal(t, whether, agree, "%v of %v", v, place)
			if agree {
				tight++
			} else if usual > 0 {
				loose++
			}
		}
	}
	assert.Positive(t, tight)
	assert.Positive(t, loose)
}

// BenchmarkUsual: all experts of a large model are at one place.
func BenchmarkUsual(b *testing.B) {
	place := make([]float64, 75*256)
	for i := range place {
		place[i] = 0.01 + 1e-7*float64(i)
	}
	for b.Loop() {
		for _, v := range place {
			(&extent{rms: v}).usual(place)
		}
	}
}
