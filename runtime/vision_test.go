package runtime

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/runtime/media"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/runtime/vision"
)

const vlm = "nano-glm45v"

// pictures is a clip of pictures in memory.
type pictures struct {
	im   []*media.Image
	rate float64
}

func (p pictures) Frames() int      { return len(p.im) }
func (p pictures) Rate() float64    { return p.rate }
func (p pictures) Size() (w, h int) { return p.im[0].Width, p.im[0].Height }
func (p pictures) Each(want func(int) bool, fn func(int, *media.Image) error) error {
	for i, im := range p.im {
		if want(i) {
			if err := fn(i, im); err != nil {
				return err
			}
		}
	}
	return nil
}

func picture(t testing.TB, name string) *media.Image {
	im, err := media.OpenImage(testkit.Shared(t, "reference/golden/"+vlm+"/"+name), media.Limits{})
	require.NoError(t, err)
	return im
}

type visionCase struct{ name, text string }

var visionCases = []visionCase{
	{"image", "[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>What is in the picture?<|assistant|>\n"},
	{"video", "[gMASK]<sop><|user|>\nLook: <|begin_of_video|><|video|><|end_of_video|> then answer.<|assistant|>\n"},
}

// prepare returns the golden prompt of a case.
func (c visionCase) prepare(t testing.TB, m *Model) *vision.Inputs {
	dir := testkit.Shared(t, "reference/"+vlm)
	p, err := vision.Load(dir, m.cfg)
	require.NoError(t, err)
	tok, err := tokenizer.Load(dir)
	require.NoError(t, err)
	var item *vision.Patches
	if c.name == "image" {
		item, err = p.Still(picture(t, "image.png"))
	} else {
		clip := pictures{rate: 2}
		for _, f := range []string{"frame0.png", "frame1.png", "frame2.png", "frame3.png"} {
			clip.im = append(clip.im, picture(t, f))
		}
		item, err = p.Frames(clip, []int{0, 1, 2, 3}, 2)
	}
	require.NoError(t, err)
	in, err := p.Prepare(m.cfg, tok.Encode(c.text), []*vision.Patches{item}, tok.EncodeOrdinary)
	require.NoError(t, err)
	return in
}

func TestGoldenVision(t *testing.T) {
	ctx := context.Background()
	g, m := goldens(t, vlm+"/golden.safetensors"), load(t, vlm, Options{})
	for _, c := range visionCases {
		t.Run(c.name, func(t *testing.T) {
			in := c.prepare(t, m)
			grid := in.Items[0].Grid
			assert.Equal(t, g.ints(c.name+".ids"), in.IDs)
			assert.Equal(t, g.ints(c.name+".grid_thw"), []int{grid.T, grid.H, grid.W})
			assert.Equal(t, g.ints(c.name+".rope_delta"), []int{in.Delta})
			want := g.ints(c.name + ".position_ids")
			for i, p := range in.Positions {
				for axis := range 3 {
					assert.Equal(t, want[axis*len(in.IDs)+i], p[axis], "token %d axis %d", i, axis)
				}
			}
			assert.Equal(t, g.floats(c.name+".pixel_values"), in.Items[0].Pixel)

			d, err := m.Media(ctx, in)
			require.NoError(t, err)
			rel := relative(g.floats(c.name+".embeds"), d.Rows)
			t.Logf("embeddings: relative error %.2g", rel)
			assert.Less(t, rel, 1e-4)

			out, err := m.Evaluate(ctx, [][]int{in.IDs}, EvalOptions{Logits: true, Media: []*Media{d}})
			require.NoError(t, err)
			z := g.floats(c.name + ".logits")
			diff := compare(t, "logits", z, out[0].Logits[len(out[0].Logits)-len(z):])
			t.Logf("logits: max |Δ| = %.2g σ", diff)
			assert.Less(t, diff, tolerance)

			s := m.NewSession()
			require.NoError(t, s.Attach(d))
			assert.Equal(t, g.ints(c.name+".greedy"), greedy(t, m, s, in.IDs, 24))
		})
	}
}

// greedy continues a prompt; the two placeholders are never chosen.
func greedy(t *testing.T, m *Model, s *Session, next []int, n int) (out []int) {
	for range n {
		h, err := s.Forward(context.Background(), next)
		require.NoError(t, err)
		z, err := m.Logits(context.Background(), h[len(h)-m.cfg.HiddenSize:])
		require.NoError(t, err)
		z[m.cfg.Vision.ImageTokenID], z[m.cfg.Vision.VideoTokenID] = float32(math.Inf(-1)), float32(math.Inf(-1))
		next = Top(z, m.cfg.VocabSize)
		out = append(out, next[0])
	}
	return out
}

// relative is the norm of the difference over the norm of want.
func relative(want, got []float32) float64 {
	if len(want) != len(got) {
		return math.Inf(1)
	}
	var d, n float64
	for i, w := range want {
		d += (float64(w) - float64(got[i])) * (float64(w) - float64(got[i]))
		n += float64(w) * float64(w)
	}
	return math.Sqrt(d / n)
}
