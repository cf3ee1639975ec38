package vision

import (
	"context"
	"fmt"
	"math"

	"github.com/glmconv/glmconv/runtime/media"
)

// Size returns the height and width that n frames of h × w pixels are resized
// to: multiples of factor (patch times merge size) whose volume lies within the
// pixel budget (docs/facts/families.md 6.1; rounding is half to even). A still
// picture counts as a full temporal patch.
func Size(n, h, w, temporal, factor int, minPixels, maxPixels int64) (int, int, error) {
	if n <= 0 || h <= 0 || w <= 0 {
		return 0, 0, fmt.Errorf("%d frames of %d × %d pixels: nothing to see", n, w, h)
	}
	f := float64(factor)
	if h < factor || w < factor {
		scale := max(f/float64(h), f/float64(w))
		h, w = int(float64(h)*scale), int(float64(w)*scale)
	}
	if ratio := float64(max(h, w)) / float64(min(h, w)); ratio > 200 {
		return 0, 0, fmt.Errorf("one side is %.0f times as long as the other; the model takes up to 200 times: crop it first", ratio)
	}
	fh, fw, fn := float64(h), float64(w), float64(n)
	height, width := math.RoundToEven(fh/f)*f, math.RoundToEven(fw/f)*f
	frames := math.RoundToEven(fn/float64(temporal)) * float64(temporal)
	switch volume := frames * height * width; {
	case volume > float64(maxPixels):
		beta := math.Sqrt(fn * fh * fw / float64(maxPixels))
		height, width = max(f, math.Floor(fh/beta/f)*f), max(f, math.Floor(fw/beta/f)*f)
	case volume < float64(minPixels):
		beta := math.Sqrt(float64(minPixels) / (fn * fh * fw))
		height, width = math.Ceil(fh*beta/f)*f, math.Ceil(fw*beta/f)*f
	}
	return int(height), int(width), nil
}

// taps are the weights of one output sample in fixed point.
type taps struct {
	first  int
	weight []int32
}

// cubic is the convolution kernel of PIL and torchvision for resizing, a = −0.5.
func cubic(x float64) float64 {
	const a = -0.5
	switch x = math.Abs(x); {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return (((x-5)*x+8)*x - 4) * a
	}
	return 0
}

// plan computes the taps that resample in samples to out, and the binary
// places of the weights: as many as keep the largest below 2^15, as torch's
// 8-bit resize has them.
func plan(in, out int) ([]taps, uint) {
	scale := float64(in) / float64(out)
	stretch := max(scale, 1) // antialias: the kernel grows when shrinking
	support := 2 * stretch
	real := make([][]float64, out)
	all := make([]taps, out)
	top := 0.0
	for i := range all {
		center := (float64(i) + 0.5) * scale
		lo := max(0, int(center-support+0.5))
		hi := min(in, int(center+support+0.5))
		w, sum := make([]float64, hi-lo), 0.0
		for k := range w {
			w[k] = cubic((float64(k+lo) - center + 0.5) / stretch)
			sum += w[k]
		}
		for k := range w {
			w[k] /= sum
			top = max(top, w[k])
		}
		real[i], all[i].first = w, lo
	}
	places := uint(0)
	for places < 22 && int(0.5+top*float64(int(1)<<(places+1))) < 1<<15 {
		places++
	}
	for i, w := range real {
		all[i].weight = make([]int32, len(w))
		for k, v := range w {
			all[i].weight[k] = int32(math.Round(v * float64(int(1)<<places)))
		}
	}
	return all, places
}

// Resize scales a picture with antialiased bicubic interpolation on 8-bit
// channels: columns first, then rows, each pass rounded and clamped to 0 … 255,
// like torchvision's 8-bit resize (PIL agrees within 1).
func Resize(im *media.Image, h, w int) *media.Image {
	im, _ = resize(context.Background(), im, h, w)
	return im
}

// resize is Resize; its only error is the end of ctx.
func resize(ctx context.Context, im *media.Image, h, w int) (*media.Image, error) {
	if im.Width != w {
		t, places := plan(im.Width, w)
		out := media.NewImage(w, im.Height)
		for y := range im.Height {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			src, dst := im.Pix[3*y*im.Width:], out.Pix[3*y*w:]
			for x, t := range t {
				blend(dst[3*x:], src[3*t.first:], 3, t.weight, places, 3)
			}
		}
		im = out
	}
	if im.Height != h {
		t, places := plan(im.Height, h)
		out := media.NewImage(w, h)
		for y, t := range t {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			blend(out.Pix[3*y*w:], im.Pix[3*t.first*w:], 3*w, t.weight, places, 3*w)
		}
		im = out
	}
	return im, nil
}

// blend writes n samples: weighted sums of samples stride apart.
func blend(dst, src []byte, stride int, weight []int32, places uint, n int) {
	for i := range n {
		sum := int32(1) << (places - 1)
		for k, w := range weight {
			sum += w * int32(src[k*stride+i])
		}
		dst[i] = byte(min(max(sum>>places, 0), 255))
	}
}
