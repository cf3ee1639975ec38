package mtp

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/safetensors"
)

// sparse writes a checkpoint without data: true widths, no disk.
func sparse(t *testing.T, o synth.Options) (string, *glm.Config) {
	t.Helper()
	o.Sparse = true
	plan, err := synth.NewPlan(o)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), o.Preset)
	require.NoError(t, plan.Write(context.Background(), dir))
	return dir, plan.Config
}

// TestFullSize decides on the headers of every published checkpoint at its
// full size.
func TestFullSize(t *testing.T) {
	layer := map[string]int{
		"glm-4.5": 92, "glm-4.5-air": 46, "glm-4.6": 92, "glm-4.7": 92, "glm-4.7-flash": 47,
		"glm-5": 78, "glm-5.1": 78, "glm-5.2": 78, "glm-5.3": 78,
	}
	for _, preset := range glm.Presets() {
		if testing.Short() && preset != "glm-5" {
			continue
		}
		t.Run(preset, func(t *testing.T) {
			dir, cfg := sparse(t, synth.Options{Preset: preset})
			r, err := NewRemap(dir, Options{})
			want, has := layer[preset]
			if !has {
				require.ErrorIs(t, err, ErrNoMTP)
				return
			}
			require.NoError(t, err)
			info, err := glm.LookupPreset(preset)
			require.NoError(t, err)
			assert.Equal(t, want, r.Layer)
			assert.Equal(t, info.MTPCopies, r.Done)
			if !info.MTPCopies {
				require.Len(t, r.Copies, 2)
				assert.Equal(t, 2*2*int64(cfg.VocabSize)*int64(cfg.HiddenSize), r.Bytes)
			}
		})
	}
}

// TestFamilies remaps a small checkpoint of every family: stacked experts, one
// file or several, the MTP layer apart, listed or not.
func TestFamilies(t *testing.T) {
	for _, preset := range []string{"glm-4.5-air", "glm-4.6", "glm-4.7-flash", "glm-5", "glm-5.2"} {
		for _, fused := range []bool{false, true} {
			for _, place := range []synth.MTPPlace{synth.PlaceShards, synth.PlaceListed, synth.PlaceUnlisted} {
				dir, cfg := sparse(t, synth.Options{Preset: preset, Layers: 2, Experts: 4, Vocab: 512, MTP: synth.MTPPlain, MTPPlace: place, Fused: fused, ShardBytes: 200 << 20})
				files := snapshotNames(t, dir)
				r := apply(t, dir, Options{})
				assert.Equal(t, cfg.Layers, r.Layer, preset)
				assert.Equal(t, place == synth.PlaceUnlisted, len(r.Listed) > 0, "%s %s", preset, place)
				c, err := safetensors.OpenDir(dir)
				require.NoError(t, err)
				assert.Empty(t, c.Problems(), "%s %s", preset, place)
				embed, head := cfg.MTPNames(cfg.Layers)
				for _, n := range []string{embed, head} {
					info, ok := c.Info(n)
					require.True(t, ok, "%s %s", preset, n)
					assert.Equal(t, []int64{int64(cfg.VocabSize), int64(cfg.HiddenSize)}, info.Shape)
				}
				m, err := glm.Describe(cfg, c.Tensors())
				require.NoError(t, err)
				assert.True(t, StateOf(m).Ready(), preset)
				assert.Empty(t, m.Missing)
				require.NoError(t, c.Close())
				require.NoError(t, Undo(dir, nil))
				assert.Equal(t, files, snapshotNames(t, dir))
			}
		}
	}
}

func snapshotNames(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	return list
}

func TestStateOf(t *testing.T) {
	for model, want := range map[string]*State{
		"nano-glm4moe": {Layer: 3, EmbedTokens: true, SharedHead: true, Complete: true, Declared: true},
		"nano-glm5":    {Layer: 3, Complete: true, Declared: true, Lacks: []string{copyEmbed, copyHead}},
		"nano-glm45v":  nil,
	} {
		dir := clone(t, model)
		cfg, err := glm.LoadConfig(dir)
		require.NoError(t, err)
		c, err := safetensors.OpenDir(dir)
		require.NoError(t, err)
		m, err := glm.Describe(cfg, c.Tensors())
		require.NoError(t, err)
		require.NoError(t, c.Close())
		got := StateOf(m)
		if want == nil {
			assert.Nil(t, got)
			assert.False(t, got.Ready())
			continue
		}
		assert.NotEmpty(t, got.File)
		got.File = ""
		assert.Equal(t, want, got, model)
		assert.Equal(t, len(want.Lacks) == 0, got.Ready())
	}
}
