package vision

import (
	"context"
	"fmt"

	"github.com/glmconv/glmconv/runtime/media"
)

// Grid counts the patches of a picture or clip: temporal slices, rows, columns.
type Grid struct{ T, H, W int }

// Patches is a picture or clip as the vision tower reads it. Rows come slice by
// slice, within a slice by blocks of merge × merge patches, row-major; a row is
// a patch in the order channel, frame, y, x.
type Patches struct {
	Grid  Grid
	Pixel []float32 // [T·H·W, 3·temporal·patch·patch], normalised
	// Times of the temporal slices in seconds; nil for a picture.
	Times []float64
}

// Still prepares a picture.
func (p *Processor) Still(im *media.Image) (*Patches, error) {
	return p.still(context.Background(), im)
}

func (p *Processor) still(ctx context.Context, im *media.Image) (*Patches, error) {
	s := &p.Image
	h, w, err := s.size(s.Temporal, im.Height, im.Width)
	if err != nil {
		return nil, err
	}
	out := s.newPatches(1, h, w)
	if im, err = resize(ctx, im, h, w); err != nil {
		return nil, err
	}
	for f := range s.Temporal { // a still fills the whole temporal patch
		s.put(out, f, im)
	}
	return out, nil
}

func (s *Settings) size(n, h, w int) (int, int, error) {
	factor := s.Patch * s.Merge
	if !s.Resize {
		if h%factor != 0 || w%factor != 0 {
			return 0, 0, fmt.Errorf("%d × %d pixels are not a multiple of %d, and the checkpoint's do_resize is false", w, h, factor)
		}
		return h, w, nil
	}
	return Size(n, h, w, s.Temporal, factor, s.MinPixels, s.MaxPixels)
}

func (s *Settings) newPatches(slices, h, w int) *Patches {
	g := Grid{slices, h / s.Patch, w / s.Patch}
	return &Patches{Grid: g, Pixel: make([]float32, g.T*g.H*g.W*s.width())}
}

func (s *Settings) width() int { return 3 * s.Temporal * s.Patch * s.Patch }

// put writes frame f of the clip, already resized, to its patches.
func (s *Settings) put(p *Patches, f int, im *media.Image) {
	table := s.table()
	area := s.Patch * s.Patch
	row := f / s.Temporal * p.Grid.H * p.Grid.W
	for by := 0; by < p.Grid.H; by += s.Merge {
		for bx := 0; bx < p.Grid.W; bx += s.Merge {
			for i := range s.Merge * s.Merge {
				y0, x0 := (by+i/s.Merge)*s.Patch, (bx+i%s.Merge)*s.Patch
				dst := p.Pixel[row*s.width():][:s.width()]
				for c := range 3 {
					at := dst[(c*s.Temporal+f%s.Temporal)*area:]
					for y := range s.Patch {
						src := im.Pix[3*((y0+y)*im.Width+x0)+c:]
						for x := range s.Patch {
							at[y*s.Patch+x] = table[c][src[3*x]]
						}
					}
				}
				row++
			}
		}
	}
}

// table holds the normalised value of every byte. The reference folds the
// rescaling into mean and standard deviation, all in float32.
func (s *Settings) table() *[3][256]float32 {
	t := &[3][256]float32{}
	inv := float32(1 / s.Rescale)
	for c := range t {
		mean, std := float32(float32(s.Mean[c])*inv), float32(float32(s.Std[c])*inv)
		for v := range t[c] {
			t[c][v] = (float32(v) - mean) / std
		}
	}
	return t
}
