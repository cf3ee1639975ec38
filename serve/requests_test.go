package serve

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestRequestsApart: a request of which one job made room for others, and stands
// apart from the rest, counts once.
func TestRequestsApart(t *testing.T) {
	a, b := &job{}, &job{}
	s := &scheduler{waiting: []*job{{request: a}, {request: b}, {request: a}, {request: a}}}
	assert.Equal(t, 2, s.requests())
	assert.Zero(t, (&scheduler{}).requests())
}
