package convert

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/glmconv/glmconv/quant"
)

// TestKept: bytes are kept while there is room, for their own tile and once.
func TestKept(t *testing.T) {
	k := kept{buffers: &buffers{}, files: map[int]bool{0: true}, room: 100}
	items := []quant.Item{{}, {}, {File: 1}}
	first, second := &tile{item: &items[0], bytes: 60}, &tile{item: &items[0], row0: 4, bytes: 60}
	assert.Nil(t, k.buffer(&tile{item: &items[2], bytes: 60}), "of a file that is not written")
	b := k.buffer(first)
	copy(b, "bytes")
	k.put(first, b)
	assert.Nil(t, k.buffer(second), "no room")
	assert.Nil(t, k.take(second))
	assert.Nil(t, k.take(&tile{item: &items[1]}))
	got := k.take(first)
	assert.Equal(t, "bytes", string(got[:5]))
	assert.Nil(t, k.take(first), "taken")
	assert.Nil(t, k.buffer(second), "still in use")
	k.release(got)
	assert.Len(t, k.buffer(second), 60)
	k.release(nil)
	assert.EqualValues(t, 40, k.room)
}

// TestKeptMemory: only plans with global scales keep bytes, and only what lanes
// and workers leave of the limit.
func TestKeptMemory(t *testing.T) {
	src := openShared(t, "reference/nano-glm4moe")
	for _, c := range []struct {
		name   string
		scheme quant.Scheme
		limit  int64
		want   int64
	}{{"no global scale", quant.W8A8, 1 << 30, 0}, {"room", quant.NVFP4A16, 1 << 30, mostKept}, {"none", quant.NVFP4A16, 100 << 20, 0}} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := convertTo(t, src, c.scheme, "", quant.Options{}, Options{})
			o := Options{Workers: 2, MaxMemory: c.limit}
			n, budget := lanes(p, o, len(p.Files))
			assert.Equal(t, c.want, keptMemory(p, o, n, budget))
		})
	}
}
