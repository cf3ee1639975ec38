package vision

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/runtime/media"
)

func TestSize(t *testing.T) {
	for _, c := range []struct {
		name          string
		n, h, w       int
		lo, hi        int64
		height, width int
		failing       bool
	}{
		{"shrunk to multiples", 2, 97, 150, 12544, 9633792, 84, 140, false},
		{"smaller than a patch", 2, 20, 50, 12544, 9633792, 56, 140, false}, // enlarged before the rule, and again for the budget
		{"half to even, up", 2, 42, 98, 1, 1 << 30, 56, 112, false},         // 1.5 → 2, 3.5 → 4: half to even
		{"half to even, down", 2, 70, 126, 1, 1 << 30, 56, 112, false},      // 2.5 → 2, 4.5 → 4
		{"one pixel", 2, 1, 1, 12544, 9633792, 84, 84, false},
		{"over the budget", 2, 4000, 3000, 12544, 9633792, 2520, 1876, false},
		{"narrowest ratio", 2, 28, 28 * 200, 1, 1 << 30, 28, 5600, false},
		{"beyond the ratio", 2, 28, 28*200 + 28, 1, 1 << 30, 0, 0, true},
		{"beyond the ratio, small", 2, 3, 20000, 12544, 9633792, 0, 0, true},
		{"no height", 2, 0, 5, 12544, 9633792, 0, 0, true},
		{"long clip", 600, 1080, 1920, 12544, 47040000, 196, 364, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, w, err := Size(c.n, c.h, c.w, 2, 28, c.lo, c.hi)
			assert.Equal(t, c.failing, err != nil, "%v", err)
			assert.Equal(t, []int{c.height, c.width}, []int{h, w})
		})
	}
}

func TestSizeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, h, w := rapid.IntRange(1, 640).Draw(t, "n"), rapid.IntRange(1, 5000).Draw(t, "h"), rapid.IntRange(1, 5000).Draw(t, "w")
		height, width, err := Size(n, h, w, 2, 28, 12544, 9633792)
		if err != nil {
			return
		}
		if height%28 != 0 || width%28 != 0 || height < 28 || width < 28 {
			t.Fatalf("%d × %d", width, height)
		}
	})
}

func TestSample(t *testing.T) {
	v45, v46 := &Processor{Video: Settings{FPS: 2, MaxDuration: 300, Temporal: 2}}, &Processor{V46: true, Video: Settings{Temporal: 2}}
	assert.Equal(t, []int{0, 12, 24, 36}, v45.Sample(48, 24), "two seconds at two frames each")
	assert.Equal(t, []int{0, 0}, v45.Sample(1, 24))
	assert.Equal(t, []int{0, 13, 25, 38}, v45.Sample(50, 25), "rounded up")
	assert.Equal(t, []int{0, 1, 2, 3}, v45.Sample(4, 2))
	long := v45.Sample(24*400, 24)
	assert.Len(t, long, 600)
	assert.Equal(t, []int{0, 24*400 - 1}, []int{long[0], long[599]})
	// 3 frames a second, doubled: every 4th of 24, but for the rounding of the
	// accumulated seconds, which is the reference's.
	assert.Equal(t, []int{0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 41, 45}, v46.Sample(48, 24))
	assert.Len(t, v46.Sample(24*3000, 24), 640)
	for _, p := range []*Processor{v45, v46} {
		rapid.Check(t, func(t *rapid.T) {
			n, rate := rapid.IntRange(1, 20000).Draw(t, "n"), rapid.Float64Range(0.01, 1000).Draw(t, "rate")
			s := p.Sample(n, rate)
			if len(s) == 0 || len(s)%2 != 0 || len(s) > 642 && p.V46 || !slices.IsSorted(s) || s[0] < 0 || s[len(s)-1] >= n {
				t.Fatalf("%d frames at %g: %v", n, rate, s)
			}
		})
	}
}

func TestTimestamps(t *testing.T) {
	assert.Equal(t, "3", (&Processor{}).timestamp(3.9))
	assert.Equal(t, "3.9 seconds", (&Processor{V46: true}).timestamp(3.9))
	assert.Equal(t, "0.0 seconds", (&Processor{V46: true}).timestamp(0))
}

func TestPrepare(t *testing.T) {
	cfg, p := nano(t)
	still, err := p.Still(Scene(120, 90, 0))
	require.NoError(t, err)
	other, err := p.Still(Scene(60, 200, 0))
	require.NoError(t, err)
	film, err := p.Clip(clip{90, 120, 6})
	require.NoError(t, err)
	v := cfg.Vision
	encode := func(s string) []int { return []int{700 + len(s)} }
	in, err := p.Prepare(cfg, []int{1, v.ImageTokenID, 2, v.VideoTokenID, 3, v.ImageTokenID, 4}, []*Patches{still, other, film}, encode)
	require.NoError(t, err)
	assert.Equal(t, []*Patches{still, film, other}, in.Items, "in the order of the prompt")
	rows := 0
	for _, it := range in.Items {
		rows += it.Grid.T * it.Grid.H * it.Grid.W / 4
	}
	assert.Len(t, in.Slots, rows)
	assert.Len(t, in.Positions, len(in.IDs))
	for _, s := range in.Slots {
		assert.Equal(t, v.ImageTokenID, in.IDs[s])
	}
	assert.NotContains(t, in.IDs, v.VideoTokenID)
	last := in.Positions[len(in.IDs)-1]
	assert.Equal(t, last[0]+1-len(in.IDs), in.Delta)

	for what, items := range map[string][]*Patches{"no picture is left": {still, film}, "no video is left": {still, other},
		"1 of 4": {still, other, film, still}} {
		_, err := p.Prepare(cfg, []int{1, v.ImageTokenID, 2, v.VideoTokenID, 3, v.ImageTokenID, 4}, items, encode)
		assert.ErrorContains(t, err, what)
	}
	text, err := p.Prepare(cfg, []int{1, 2, 3}, nil, encode)
	require.NoError(t, err)
	assert.Zero(t, text.Delta)
}

func TestOpenFiles(t *testing.T) {
	_, p := nano(t)
	bad := filepath.Join(t.TempDir(), "bad.png")
	require.NoError(t, os.WriteFile(bad, []byte("nothing"), 0o600))
	_, err := p.Open(context.Background(), Files{Images: []string{bad}})
	assert.ErrorContains(t, err, bad)
	clip := filepath.Join(t.TempDir(), "wide.y4m")
	require.NoError(t, os.WriteFile(clip, append([]byte("YUV4MPEG2 W20000 H3 Cmono\nFRAME\n"), make([]byte, 60000)...), 0o600))
	_, err = p.Open(context.Background(), Files{Videos: []string{clip}})
	assert.ErrorContains(t, err, clip)
	assert.ErrorContains(t, err, "times as long")
}

func TestUnevenFolder(t *testing.T) {
	_, p := nano(t)
	_, err := p.Clip(uneven{})
	assert.ErrorContains(t, err, "frame 1 has 50 × 40 pixels, the clip has 90 × 60")
}

type uneven struct{ clip }

func (uneven) Frames() int      { return 2 }
func (uneven) Size() (w, h int) { return 90, 60 }
func (uneven) Each(_ func(int) bool, fn func(int, *media.Image) error) error {
	if err := fn(0, Scene(90, 60, 0)); err != nil {
		return err
	}
	return fn(1, Scene(50, 40, 1))
}

func TestSettings(t *testing.T) {
	cfg, _ := nano(t)
	load := func(image map[string]any) (*Processor, error) {
		dir := t.TempDir()
		b, err := json.Marshal(image)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "preprocessor_config.json"), b, 0o600))
		return Load(dir, cfg)
	}
	p, err := load(map[string]any{"processor_class": "Glm46VProcessor", "size": map[string]any{"shortest_edge": 100, "longest_edge": 5000}})
	require.NoError(t, err)
	assert.True(t, p.V46)
	assert.Equal(t, []int64{100, 5000}, []int64{p.Image.MinPixels, p.Image.MaxPixels})
	for what, bad := range map[string]map[string]any{
		"patch_size": {"patch_size": 16}, "resample": {"resample": 2}, "image_std": {"image_std": []float64{1, 0, 1}},
		"range": {"size": map[string]any{"shortest_edge": 10,
			"longest_edge": 1}}, "sampling": {"fps": 1e9}, "usable " +
			"range": {"size": map[string]any{"shortest_edge": 1 << 40, "longest_edge": 1 << 41}}, "three numbers": {"image_mean": []float64{1}},
	} {
		_, err := load(bad)
		assert.ErrorContains(t, err, what, fmt.Sprint(bad))
	}
	p, err = load(map[string]any{"do_resize": false})
	require.NoError(t, err)
	_, err = p.Still(Scene(57, 56, 0))
	assert.ErrorContains(t, err, "do_resize")
	// No resize: the values are exactly those of the bytes.
	im := Scene(84, 56, 0)
	x, err := p.Still(im)
	require.NoError(t, err)
	got := x.Pixel[0] // patch 0, red, first frame, place (0, 0)
	assert.InDelta(t, (float64(im.Pix[0])/255-0.48145466)/0.26862954, got, 1e-6)
	assert.Equal(t, x.Pixel[:196], x.Pixel[196:392], "both frames of a still are the same")
}

func TestResizeKeepsFlat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 90)
		im := media.NewImage(size.Draw(t, "w"), size.Draw(t, "h"))
		v := rapid.Byte().Draw(t, "v")
		for i := range im.Pix {
			im.Pix[i] = v
		}
		out := Resize(im, size.Draw(t, "h'"), size.Draw(t, "w'"))
		for _, g := range out.Pix {
			if g != v {
				t.Fatalf("%d became %d", v, g)
			}
		}
	})
}

func TestProbes(t *testing.T) {
	cfg, p := nano(t)
	texts := [][]int{{1, 2, 3, 4}, {5}, {}, {6, 7, 8}, {9, 10}}
	in, err := p.Probes(cfg, texts)
	require.NoError(t, err)
	require.Len(t, in, len(texts))
	assert.Equal(t, 2, in[3].Items[0].Grid.T, "a clip")
	again, err := p.Probes(cfg, texts)
	require.NoError(t, err)
	assert.Equal(t, in, again)
}

func TestPrepareExpanded(t *testing.T) {
	cfg, p := nano(t)
	still, err := p.Still(Scene(120, 90, 0))
	require.NoError(t, err)
	film, err := p.Clip(clip{90, 120, 6})
	require.NoError(t, err)
	v := cfg.Vision
	encode := func(s string) []int { return []int{700 + len(s)} }
	items := []*Patches{still, film}
	short := []int{1, v.ImageStartID, v.ImageTokenID, v.ImageEndID, 2, v.VideoStartID, v.VideoTokenID, v.VideoEndID, 3}
	want, err := p.Prepare(cfg, short, items, encode)
	require.NoError(t, err)
	got, err := p.Prepare(cfg, want.IDs, items, nil)
	require.NoError(t, err)
	assert.Equal(t, want, got, "what a processor returns is taken as it is")

	n := len(want.Slots)
	for what, ids := range map[string][]int{
		"another size":        slices.Delete(slices.Clone(want.IDs), want.Slots[0], want.Slots[0]+1),
		"no video is left":    append(slices.Clone(want.IDs), v.VideoStartID, v.ImageTokenID),
		"after 2 of 3 slices": slices.Delete(slices.Clone(want.IDs), want.Slots[n-1]-film.Grid.H*film.Grid.W/4, want.Slots[n-1]+1),
		"1 of 2 pictures and": append([]int{1}, want.IDs[want.Slots[still.Grid.H*still.Grid.W/4]-2:]...),
	} {
		_, err := p.Prepare(cfg, ids, items, nil)
		assert.ErrorContains(t, err, what)
	}
}
