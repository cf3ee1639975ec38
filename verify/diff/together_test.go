package diff

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// steps are codes' distances from the nearest ones: of rows of weights that are
// rounded with the error of each column carried on to the next one in part
// (what GPTQ does for inputs of which neighbours go together), or after noise.
func steps(rows, cols int, carry, noise float64) *together {
	rng := rand.New(rand.NewPCG(1, 2))
	t := &together{}
	t.start(cols)
	for range rows {
		over, loud := 0.0, math.Exp(rng.NormFloat64()) // rows of all sizes
		for c := range cols {
			u := 3 * rng.NormFloat64()
			v := u + over + noise*loud*rng.NormFloat64()
			q := math.RoundToEven(v)
			over = carry * (u + over - q)
			t.note(c, int(q-math.RoundToEven(u)))
		}
		t.row()
	}
	return t
}

// TestTogether: learnt codes stand out from noise that moves as many codes,
// whatever its size is.
func TestTogether(t *testing.T) {
	for _, size := range [][2]int{{256, 64}, {300, 400}, {600, 100}} {
		for _, noise := range []float64{0.03, 0.1, 0.3, 1} {
			assert.Less(t, math.Abs(steps(size[0], size[1], 0, noise).deviations()), 4.0, "%v, noise of %g steps", size, noise)
		}
		assert.Greater(t, steps(size[0], size[1], 0.5, 0).deviations(), 5.0, "%v, learnt", size)
	}
	assert.Zero(t, steps(100, 100, 0, 0).deviations(), "all nearest")
	assert.Zero(t, steps(1, 1, 0, 1).deviations(), "no pair of columns")
}

// TestTogetherIsReused: a second weight does not see the first one.
func TestTogetherIsReused(t *testing.T) {
	a := steps(64, 64, 0.5, 0)
	a.start(32)
	assert.Zero(t, a.deviations())
}
