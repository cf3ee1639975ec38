package vision

import (
	"fmt"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime/media"
)

// Scene is a built-in test picture: a smooth colour field with hard edges and a
// fine texture, so that every patch differs from the others. It is the same on
// every machine; frame moves it.
func Scene(w, h, frame int) *media.Image {
	im := media.NewImage(w, h)
	wave := func(x, period int) int { // a triangle, 0 … 255
		v := x % (2 * period)
		if v >= period {
			v = 2*period - 1 - v
		}
		return v * 255 / max(1, period-1)
	}
	for y := range h {
		for x := range w {
			p := im.Pix[3*(y*w+x):]
			p[0] = byte((wave(x+7*frame, 37)*2 + wave(y, 53)) / 3)
			p[1] = byte(255 * (x + y) / (w + h))
			p[2] = byte(30 + 190*((x+9*frame)/9&1^y/13&1))
			if x > w/3 && x < w/2 && y > h/4 && y < h/2 {
				p[0], p[1] = 250, byte(20+60*frame)
			}
			n := uint32(x*73856093) ^ uint32(y*19349663) ^ uint32(frame*83492791)
			p[1] ^= byte(n * 2654435761 >> 29)
		}
	}
	return im
}

// clip is a built-in clip.
type clip struct{ w, h, frames int }

func (c clip) Frames() int      { return c.frames }
func (c clip) Rate() float64    { return 2 }
func (c clip) Size() (w, h int) { return c.w, c.h }
func (c clip) Each(want func(int) bool, fn func(int, *media.Image) error) error {
	for i := range c.frames {
		if want(i) {
			if err := fn(i, Scene(c.w, c.h, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Probes are prompts with built-in pictures for comparing two checkpoints: text
// alone cannot see a destroyed vision tower. Each sequence of ids becomes a
// prompt: its first half, a picture (a clip in every fourth prompt), its second
// half. Sizes differ from prompt to prompt; none is that of the position table.
func (p *Processor) Probes(cfg *glm.Config, texts [][]int) ([]*Inputs, error) {
	if cfg.Vision == nil || cfg.Vision.ImageTokenID < 0 {
		return nil, fmt.Errorf("config.json names no image tokens: the vision tower cannot be probed")
	}
	v := cfg.Vision
	unit := v.PatchSize * v.MergeSize
	var out []*Inputs
	for i, ids := range texts {
		half := len(ids) / 2
		w, h := unit*(4+i%3)+5, unit*(3+(i+1)%4)-3
		prompt := append([]int(nil), ids[:half]...)
		var item *Patches
		var err error
		if i%4 == 3 && v.VideoTokenID >= 0 && v.ImageStartID >= 0 && v.ImageEndID >= 0 {
			item, err = p.Clip(clip{w, h, 4})
			prompt = around(prompt, v.VideoStartID, v.VideoTokenID, v.VideoEndID)
		} else {
			item, err = p.Still(Scene(w, h, i))
			prompt = around(prompt, v.ImageStartID, v.ImageTokenID, v.ImageEndID)
		}
		if err != nil {
			return nil, err
		}
		// Timestamps need a tokenizer; a comparison of two checkpoints does not.
		in, err := p.Prepare(cfg, append(prompt, ids[half:]...), []*Patches{item}, func(string) []int { return nil })
		if err != nil {
			return nil, err
		}
		out = append(out, in)
	}
	return out, nil
}

// around appends ids without those that config.json does not name.
func around(dst []int, ids ...int) []int {
	for _, id := range ids {
		if id >= 0 {
			dst = append(dst, id)
		}
	}
	return dst
}

// Relative returns the norm of got − want over the norm of want: how far two
// towers are apart. It is infinite when the lengths differ or got is not finite.
func Relative(want, got []float32) float64 {
	if len(want) != len(got) {
		return math.Inf(1)
	}
	var d, n float64
	for i, w := range want {
		e := float64(got[i]) - float64(w)
		d += float64(e * e)
		n += float64(float64(w) * float64(w))
	}
	if math.IsNaN(d) || n == 0 && d > 0 {
		return math.Inf(1)
	}
	if n == 0 {
		return 0
	}
	return math.Sqrt(d / n)
}
