package vision

import (
	"fmt"
	"strconv"

	"github.com/glmconv/glmconv/glm"
)

// Inputs are a prompt with media as the model reads it.
type Inputs struct {
	IDs       []int    // placeholders expanded, one id per merged patch
	Positions [][3]int // rope positions of each token: temporal, height, width
	Delta     int      // position of a further token i is i + Delta on every axis
	Slots     []int    // where the rows of the vision tower go, in the order of Items
	Items     []*Patches
}

// Prepare expands the placeholders of a prompt and lays out its positions
// (docs/facts/families.md 6.3, 6.4). Each image_token_id takes the next picture
// of items, each video_token_id the next clip; encode gives the ids of a
// timestamp. A placeholder or an item without its counterpart is an error.
// Prompts whose placeholders are expanded already, as the reference processors
// return them, are recognised and kept.
func (p *Processor) Prepare(cfg *glm.Config, ids []int, items []*Patches, encode func(string) []int) (*Inputs, error) {
	if cfg.Vision == nil {
		return nil, fmt.Errorf("the checkpoint has no vision tower: it cannot look at pictures")
	}
	w := &walk{v: cfg.Vision, in: &Inputs{}}
	if w.expanded(ids, items) {
		return w.place(ids, items)
	}
	var stills, clips []*Patches
	for _, it := range items {
		if it.Times == nil {
			stills = append(stills, it)
		} else {
			clips = append(clips, it)
		}
	}
	for i, id := range ids {
		switch {
		case id >= 0 && id == w.v.ImageTokenID:
			if len(stills) == 0 {
				return nil, fmt.Errorf("token %d of the prompt is a placeholder for a picture, but no picture is left for it", i)
			}
			w.slice(stills[0].Grid)
			w.in.Items, stills = append(w.in.Items, stills[0]), stills[1:]
		case id >= 0 && id == w.v.VideoTokenID:
			if len(clips) == 0 {
				return nil, fmt.Errorf("token %d of the prompt is a placeholder for a video, but no video is left for it", i)
			}
			if w.v.ImageStartID < 0 || w.v.ImageEndID < 0 || w.v.ImageTokenID < 0 {
				return nil, fmt.Errorf("config.json names no image tokens: a video cannot be written into a prompt")
			}
			c := clips[0]
			for t := range c.Grid.T {
				w.text(w.v.ImageStartID)
				w.slice(c.Grid)
				w.text(w.v.ImageEndID)
				w.text(encode(p.timestamp(c.Times[t]))...)
			}
			w.in.Items, clips = append(w.in.Items, c), clips[1:]
		default:
			w.text(id)
		}
	}
	if n := len(stills) + len(clips); n > 0 {
		return nil, fmt.Errorf("%d of %d pictures and videos have no placeholder in the prompt", n, len(items))
	}
	w.in.Delta = w.next - len(w.in.IDs)
	return w.in, nil
}

// timestamp is the text after a temporal slice.
func (p *Processor) timestamp(seconds float64) string {
	if p.V46 {
		return strconv.FormatFloat(seconds, 'f', 1, 64) + " seconds"
	}
	return strconv.Itoa(int(seconds))
}

type walk struct {
	v    *glm.VisionConfig
	in   *Inputs
	next int // position of the next token
}

func (w *walk) text(ids ...int) {
	for _, id := range ids {
		w.in.IDs = append(w.in.IDs, id)
		w.in.Positions = append(w.in.Positions, [3]int{w.next, w.next, w.next})
		w.next++
	}
}

// slice appends the placeholders of one temporal slice.
func (w *walk) slice(g Grid) {
	rows, cols := g.H/w.v.MergeSize, g.W/w.v.MergeSize
	for r := range rows {
		for c := range cols {
			w.in.Slots = append(w.in.Slots, len(w.in.IDs))
			w.in.IDs = append(w.in.IDs, w.v.ImageTokenID)
			w.in.Positions = append(w.in.Positions, [3]int{w.next, w.next + r, w.next + c})
		}
	}
	w.next += max(rows, cols)
}
