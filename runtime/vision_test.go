package runtime

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/runtime/media"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/runtime/vision"
	"github.com/glmconv/glmconv/safetensors"
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
	im, err := media.OpenImage(context.Background(), testkit.Shared(t, "reference/golden/"+vlm+"/"+name), media.Limits{})
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
			rel := vision.Relative(g.floats(c.name+".embeds"), d.Rows)
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

// probes are the built-in prompts of the reference checkpoint.
func probes(t *testing.T, m *Model) []*vision.Inputs {
	p, err := vision.Load(testkit.Shared(t, "reference/"+vlm), m.cfg)
	require.NoError(t, err)
	in, err := p.Probes(m.cfg, [][]int{{1, 2, 3, 4}, {5, 6, 7}, {8, 9}, {10, 11, 12}})
	require.NoError(t, err)
	return in
}

// see evaluates prompts with media and returns tower rows and logits.
func see(t *testing.T, m *Model, in []*vision.Inputs) (rows, logits [][]float32) {
	ctx := context.Background()
	var seqs [][]int
	var ds []*Media
	for _, x := range in {
		d, err := m.Media(ctx, x)
		require.NoError(t, err)
		seqs, ds, rows = append(seqs, x.IDs), append(ds, d), append(rows, d.Rows)
	}
	out, err := m.Evaluate(ctx, seqs, EvalOptions{Logits: true, Media: ds})
	require.NoError(t, err)
	for _, e := range out {
		logits = append(logits, e.Logits)
	}
	return rows, logits
}

// TestVisionDeterminism: the same bits for any threads, chunks, batches, tiles.
func TestVisionDeterminism(t *testing.T) {
	ctx := context.Background()
	base := load(t, vlm, Options{Threads: 1})
	in := probes(t, base)
	rows, logits := see(t, base, in)
	src, err := safetensors.OpenDir(testkit.Shared(t, "reference/"+vlm))
	require.NoError(t, err)
	defer src.Close()
	p, err := NewStreaming(base.cfg, src, 1000)
	require.NoError(t, err)
	tiled, err := New(base.cfg, p, Options{Threads: 3, Chunk: 5})
	require.NoError(t, err)
	for name, m := range map[string]*Model{"threads": load(t, vlm, Options{Threads: 4}), "chunks": load(t, vlm, Options{Chunk: 7}), "tiles": tiled} {
		r, z := see(t, m, in)
		assert.True(t, slicesEqual(rows, r), "%s: tower", name)
		assert.True(t, slicesEqual(logits, z), "%s: logits", name)
	}
	// Alone, chunk by chunk and token by token, with a text beside it.
	m := load(t, vlm, Options{Threads: 2})
	for i, x := range in {
		d, err := m.Media(ctx, x)
		require.NoError(t, err)
		for _, step := range []int{1, 3, len(x.IDs)} {
			s, text := m.NewSession(), m.NewSession()
			require.NoError(t, s.Attach(d))
			var h []float32
			for lo := 0; lo < len(x.IDs); lo += step {
				part := x.IDs[lo:min(lo+step, len(x.IDs))]
				out, err := m.Forward(ctx, []Step{{Session: text, IDs: []int{1, 2}}, {Session: s, IDs: part}}, nil)
				require.NoError(t, err)
				h = append(h, out[2*m.cfg.HiddenSize:]...)
			}
			z, err := m.Logits(ctx, h)
			require.NoError(t, err)
			assert.True(t, slicesEqual([][]float32{logits[i]}, [][]float32{z}), "prompt %d in steps of %d", i, step)
			assert.Error(t, s.Attach(d), "too late")
		}
	}
}

func slicesEqual(a, b [][]float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !slices.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// TestTextPositionsAreOneAxis: three equal axes are the bits of plain rope.
func TestTextPositionsAreOneAxis(t *testing.T) {
	m := load(t, vlm, Options{})
	ids := []int{1, 5, 9, 200, 31, 7}
	d := &Media{Delta: 0}
	for i := range ids {
		d.Positions = append(d.Positions, [3]int{i, i, i})
	}
	out, err := m.Evaluate(context.Background(), [][]int{ids, ids}, EvalOptions{Logits: true, Media: []*Media{nil, d}})
	require.NoError(t, err)
	assert.Equal(t, out[0].Logits, out[1].Logits)
}

// TestVisionMutations: each fault is far above the tolerances of the goldens.
func TestVisionMutations(t *testing.T) {
	g := goldens(t, vlm+"/golden.safetensors")
	c := visionCases[1]
	want, wantRows := g.floats(c.name+".logits"), g.floats(c.name+".embeds")
	for name, f := range map[string]struct {
		model func(m *Model)
		in    func(m *Model, in *vision.Inputs)
		rows  bool // the tower sees it
	}{
		"patch order row-major": {in: func(m *Model, in *vision.Inputs) { rowMajor(m, in.Items[0]) }, rows: true},
		"channel last":          {in: func(_ *Model, in *vision.Inputs) { channelLast(in.Items[0]) }, rows: true},
		"frames swapped":        {in: func(_ *Model, in *vision.Inputs) { swapFrames(in.Items[0]) }, rows: true},
		"grid transposed": {in: func(_ *Model, in *vision.Inputs) {
			p := in.Items[0]
			p.Grid.H, p.Grid.W = p.Grid.W, p.Grid.H
		}, rows: true},
		"tower rope base":      {model: func(m *Model) { m.tower.rope = kernel.NewRope(1e6, 2*len(m.tower.rope.Inv)) }, rows: true},
		"norm after positions": {model: func(m *Model) { m.tower.convNorm, m.tower.norm = m.tower.norm, m.tower.convNorm }, rows: true},
		"tower eps":            {model: func(m *Model) { v := *m.tower.v; v.RMSNormEps = 1e-2; m.tower.v = &v }, rows: true},
		"axes swapped": {in: func(_ *Model, in *vision.Inputs) {
			for i, p := range in.Positions {
				in.Positions[i] = [3]int{p[0], p[2], p[1]}
			}
		}},
		"one axis": {in: func(_ *Model, in *vision.Inputs) {
			for i := range in.Positions {
				in.Positions[i] = [3]int{i, i, i}
			}
		}},
		"sections": {model: func(m *Model) { m.att.(*gqa).sections = []int{6, 6, 4} }},
		"slots shifted": {in: func(_ *Model, in *vision.Inputs) {
			for i := range in.Slots {
				in.Slots[i]--
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := load(t, vlm, Options{})
			in := c.prepare(t, m)
			if f.model != nil {
				f.model(m)
			}
			if f.in != nil {
				f.in(m, in)
			}
			rows, z := see(t, m, []*vision.Inputs{in})
			r, d := vision.Relative(wantRows, rows[0]), compare(t, "logits", want, z[0][len(z[0])-len(want):])
			t.Logf("rows %.2g, logits %.2g σ", r, d)
			if f.rows {
				assert.Greater(t, r, 20e-4)
			}
			assert.Greater(t, d, 20*tolerance)
		})
	}
}

func rowMajor(m *Model, p *vision.Patches) {
	width, old := len(p.Pixel)/(p.Grid.T*p.Grid.H*p.Grid.W), slices.Clone(p.Pixel)
	for s := range p.Grid.T {
		at := s * p.Grid.H * p.Grid.W
		i := at
		m.tower.eachPatch(p.Grid.H, p.Grid.W, func(y, x int) {
			copy(p.Pixel[(at+y*p.Grid.W+x)*width:][:width], old[i*width:])
			i++
		})
	}
}

func channelLast(p *vision.Patches) {
	old := slices.Clone(p.Pixel)
	for i := range old {
		patch, k := i/1176*1176, i%1176
		p.Pixel[patch+k%392*3+k/392] = old[i]
	}
}

func swapFrames(p *vision.Patches) {
	for i := 0; i < len(p.Pixel); i += 392 {
		for k := range 196 {
			p.Pixel[i+k], p.Pixel[i+196+k] = p.Pixel[i+196+k], p.Pixel[i+k]
		}
	}
}

// TestPositionTableRounding: the neighbours of a patch, by hand.
func TestPositionTableRounding(t *testing.T) {
	at, w := cubicTaps(0, 8, 4)
	assert.Equal(t, [4]int{0, 0, 0, 1}, at, "border repeated, −0.25 → floor −1")
	assert.InDelta(t, 1, w[0]+w[1]+w[2]+w[3], 1e-6)
	at, w = cubicTaps(2, 4, 4)
	assert.Equal(t, [4]int{1, 2, 3, 3}, at)
	assert.Equal(t, [4]float32{0, 1, 0, 0}, w, "same grid: the table itself")
	_, w = cubicTaps(1, 8, 4) // 0.25 behind the first entry
	for i, v := range []float64{-0.10546875, 0.87890625, 0.26171875, -0.03515625} {
		assert.InDelta(t, v, w[i], 1e-6, "A = −0.75")
	}
}

func TestVisionErrors(t *testing.T) {
	ctx := context.Background()
	m := load(t, vlm, Options{})
	_, err := m.visionRows(ctx, &vision.Patches{Grid: vision.Grid{T: 1, H: 3, W: 2}, Pixel: make([]float32, 6*1176)})
	assert.ErrorIs(t, err, ErrUnsupported)
	_, err = load(t, "nano-glm4moe", Options{}).visionRows(ctx, &vision.Patches{})
	assert.ErrorIs(t, err, ErrUnsupported)
	src := newMemory()
	ckpt, err := safetensors.OpenDir(testkit.Shared(t, "reference/"+vlm))
	require.NoError(t, err)
	defer ckpt.Close()
	for _, i := range ckpt.Tensors() {
		b := make([]byte, i.Size)
		require.NoError(t, ckpt.ReadAt(i, 0, b))
		src.add(i.Name, i.DType, b, i.Shape...)
	}
	src.remove("model.visual.merger.proj.weight")
	lame := resident(t, m.cfg, src, Options{})
	_, err = lame.visionRows(ctx, probes(t, m)[0].Items[0])
	assert.ErrorIs(t, err, ErrIncomplete)
	_, err = lame.NewSession().Forward(ctx, []int{1, 2})
	assert.NoError(t, err, "text needs no tower")
	stop, cancel := context.WithCancel(ctx)
	cancel()
	_, err = m.visionRows(stop, probes(t, m)[0].Items[0])
	assert.ErrorIs(t, err, context.Canceled)
}
