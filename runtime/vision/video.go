package vision

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/glmconv/glmconv/runtime/media"
)

// Source is a clip: frames that can be walked in order. *media.Clip is one.
type Source interface {
	Frames() int      // number of frames, at least 1
	Rate() float64    // frames per second, 0 when unknown
	Size() (w, h int) // of every frame
	// Each decodes the frames in order. fn gets those for which want is true.
	Each(want func(i int) bool, fn func(i int, im *media.Image) error) error
}

// unknownRate is the rate that the reference assumes for a clip without one.
const unknownRate = 24

// Clip prepares a clip: frames are sampled as the checkpoint's processor does
// it, resized one at a time, and paired into temporal patches.
func (p *Processor) Clip(src Source) (*Patches, error) {
	return p.clip(context.Background(), src)
}

func (p *Processor) clip(ctx context.Context, src Source) (*Patches, error) {
	rate := src.Rate()
	if !(rate > 0) || math.IsInf(rate, 0) {
		rate = unknownRate
	}
	n := src.Frames()
	if n < 1 {
		return nil, errors.New("the clip has no frames")
	}
	return p.frames(ctx, src, p.Sample(n, rate), rate)
}

// Frames prepares the frames of a clip with the given indices, which do not
// fall. An incomplete last temporal patch is filled up with the last frame.
func (p *Processor) Frames(src Source, index []int, rate float64) (*Patches, error) {
	return p.frames(context.Background(), src, index, rate)
}

func (p *Processor) frames(ctx context.Context, src Source, index []int, rate float64) (*Patches, error) {
	s := &p.Video
	if len(index) == 0 || !slices.IsSorted(index) {
		return nil, errors.New("the clip has no frames")
	}
	for len(index)%s.Temporal != 0 {
		index = append(slices.Clip(index), index[len(index)-1])
	}
	w, h := src.Size()
	height, width, err := s.size(len(index), h, w)
	if err != nil {
		return nil, err
	}
	out := s.newPatches(len(index)/s.Temporal, height, width)
	for i := 0; i < len(index); i += s.Temporal {
		out.Times = append(out.Times, float64(index[i])/rate)
	}
	next := 0
	err = src.Each(func(i int) bool { _, ok := slices.BinarySearch(index, i); return ok }, func(i int, im *media.Image) error {
		if im.Width != w || im.Height != h {
			return fmt.Errorf("frame %d has %d × %d pixels, the clip has %d × %d", i, im.Width, im.Height, w, h)
		}
		im, err := resize(ctx, im, height, width)
		if err != nil {
			return err
		}
		for ; next < len(index) && index[next] == i; next++ {
			s.put(out, next, im)
		}
		return nil
	})
	if err == nil && next < len(index) {
		err = fmt.Errorf("the clip ends before frame %d", index[next])
	}
	return out, err
}

// Sample chooses frames of a clip of n frames: an even number of indices that
// do not fall (docs/facts/families.md 6.5).
func (p *Processor) Sample(n int, rate float64) []int {
	var index []int
	if p.V46 {
		index = sample46(n, rate, p.Video.Temporal)
	} else {
		index = sample45(n, rate, p.Video.FPS, p.Video.MaxDuration)
	}
	index = slices.Compact(index)
	for len(index)%2 != 0 {
		index = append(index, index[len(index)-1])
	}
	return index
}

// sample45 takes fps frames per second of a clip of up to limit seconds, and as
// many evenly spaced ones of a longer clip.
func sample45(n int, rate, fps, limit float64) []int {
	last, duration := n-1, float64(n)/rate
	if duration <= limit {
		out := []int{0}
		for i := 1; i < int(math.Floor(duration*fps)); i++ {
			out = append(out, min(last, int(math.Ceil(float64(i)*rate/fps))))
		}
		return out
	}
	count := max(1, int(limit*fps))
	if count >= n {
		return linspace(0, last, n)
	}
	out := make([]int, count)
	for i := range out {
		t := 0.0
		if count > 1 {
			t = float64(i) * (duration / float64(count-1))
		}
		out[i] = min(last, int(math.Ceil(t*rate)))
	}
	return out
}

// sample46 takes fewer frames per second the longer the clip is.
func sample46(n int, rate float64, temporal int) []int {
	const maxFrames, maxDuration = 640, 2400.0
	duration := float64(n) / rate
	effective := min(duration, maxDuration)
	fps := 0.5
	switch {
	case effective <= 30:
		fps = 3
	case effective <= 300:
		fps = 1
	}
	count := max(1, min(maxFrames, int(effective*fps*float64(temporal))))
	if n < count {
		return linspace(0, n-1, count)
	}
	var out []int
	step, at := 1/(float64(temporal)*fps), 0.0
	for i := range n {
		if float64(i)*(1/rate) >= at {
			at += step
			out = append(out, i)
			if at >= math.Trunc(duration) {
				break
			}
		}
	}
	switch {
	case len(out) < count:
		return linspace(out[0], out[len(out)-1], count)
	case len(out) > count:
		return linspace(0, n-1, count)
	}
	return out
}

// linspace returns count numbers from lo to hi, evenly spaced and truncated.
func linspace(lo, hi, count int) []int {
	out := make([]int, count)
	for i := range out {
		out[i] = lo
		if i > 0 {
			out[i] = int(float64(i)*(float64(hi-lo)/float64(count-1)) + float64(lo))
		}
	}
	if count > 1 {
		out[count-1] = hi
	}
	return out
}
