package convert

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBuffers(t *testing.T) {
	var l buffers
	a := l.get(1000)
	assert.Len(t, a, 1000)
	l.put(a[:10])
	b := l.get(900)
	assert.Len(t, b, 900)
	assert.Same(t, &a[0], &b[0], "used again, whatever length it was cut to")
	l.put(b)
	assert.NotSame(t, &a[0], &l.get(100)[0], "not for a tenth of it")
	assert.NotSame(t, &a[0], &l.get(1001)[0])
	for range 3 * most {
		l.put(make([]byte, 5))
	}
	l.put(nil)
	assert.Len(t, l.free, most)
	assert.NotSame(t, &a[0], &l.get(1000)[0], "what nobody asks for is given up")
}
