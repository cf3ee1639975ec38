package vision

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
)

// FuzzLoad reads any bytes as preprocessor files: what is accepted can be
// computed with.
func FuzzLoad(f *testing.F) {
	cfg := &glm.Config{Vision: &glm.VisionConfig{PatchSize: 14, TemporalPatch: 2, MergeSize: 2}}
	for _, text := range []string{
		`{"size":{"shortest_edge":12544,"longest_edge":9633792},"patch_size":14,"temporal_patch_size":2,"merge_size":2,"image_mean":[0.5,0.5,0.5],"image_std":[0.25,0.25,0.25]}`,
		`{"do_rescale":false,"do_normalize":false,"do_resize":false,"fps":1e308,"max_duration":0,"video_processor_type":"Glm46VVideoProcessor"}`,
		`{"size":{"shortest_edge":-1e300,"longest_edge":1e300},"image_std":[0,0,0],"rescale_factor":1e-320}`, `[]`, `{`,
	} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, name := range []string{"preprocessor_config.json", "video_preprocessor_config.json"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		}
		var p *Processor
		var err error
		testkit.AllocatesWithin(t, len(text), 400, 1<<20, func() { p, err = Load(dir, cfg) })
		if err != nil {
			return
		}
		for _, s := range []Settings{p.Image, p.Video} {
			require.Positive(t, s.MinPixels)
			require.LessOrEqual(t, s.MinPixels, s.MaxPixels)
			require.LessOrEqual(t, s.MaxPixels, int64(maxVolume))
			require.False(t, math.IsNaN(s.Rescale) || math.IsInf(s.Rescale, 0))
			for i := range s.Std {
				require.NotZero(t, s.Std[i])
			}
		}
	})
}
