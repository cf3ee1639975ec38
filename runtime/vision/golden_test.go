package vision

import (
	"context"
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/runtime/media"
	"github.com/glmconv/glmconv/safetensors"
)

const goldenDir = "reference/golden/nano-glm45v/"

func golden(t *testing.T, name string, d safetensors.DType) []byte {
	f, err := safetensors.OpenFile(testkit.Shared(t, goldenDir+"golden.safetensors"))
	require.NoError(t, err)
	defer f.Close()
	info, ok := f.Tensor(name)
	require.True(t, ok, name)
	require.Equal(t, d, info.DType)
	b := make([]byte, info.Size)
	require.NoError(t, f.ReadTensor(info, 0, b))
	return b
}

func floats(t *testing.T, name string) []float32 {
	b := golden(t, name, safetensors.F32)
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}

func ints(t *testing.T, name string) []int {
	b := golden(t, name, safetensors.I32)
	out := make([]int, len(b)/4)
	for i := range out {
		out[i] = int(int32(binary.LittleEndian.Uint32(b[4*i:])))
	}
	return out
}

func nano(t *testing.T) (*glm.Config, *Processor) {
	dir := testkit.Shared(t, "reference/nano-glm45v")
	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	p, err := Load(dir, cfg)
	require.NoError(t, err)
	return cfg, p
}

func picture(t *testing.T, name string) *media.Image {
	im, err := media.OpenImage(context.Background(), testkit.Shared(t, goldenDir+name), media.Limits{})
	require.NoError(t, err)
	return im
}

// sameLevels checks that patches are within one 8-bit level of the reference,
// and that the values themselves are the reference's bits where the level is.
func sameLevels(t *testing.T, s *Settings, want, got []float32) {
	require.Len(t, got, len(want))
	per := s.Patch * s.Patch * s.Temporal
	off := 0
	for i := range want {
		c := i / per % 3
		if want[i] != got[i] {
			off++
			assert.LessOrEqual(t, math.Abs(float64(want[i]-got[i]))*s.Std[c]*255, 1.001, "value %d", i)
		}
	}
	t.Logf("%d of %d values differ by one level", off, len(want))
	assert.Less(t, off, len(want)/50)
}

func TestGoldenStill(t *testing.T) {
	_, p := nano(t)
	for name, file := range map[string]string{"image": "image.png", "pre_20x50": "pre_20x50.png", "pre_300x41": "pre_300x41.png"} {
		t.Run(name, func(t *testing.T) {
			got, err := p.Still(picture(t, file))
			require.NoError(t, err)
			g := got.Grid
			assert.Equal(t, ints(t, name+".grid_thw"), []int{g.T, g.H, g.W})
			sameLevels(t, &p.Image, floats(t, name+".pixel_values"), got.Pixel)
		})
	}
}
