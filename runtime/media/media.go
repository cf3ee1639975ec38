package media

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
)

// Image is an 8-bit RGB picture: Pix holds rows of 3·Width bytes.
type Image struct {
	Width, Height int
	Pix           []byte
}

// NewImage returns a black picture.
func NewImage(w, h int) *Image { return &Image{w, h, make([]byte, 3*w*h)} }

// Limits bound what a file may ask for; zero fields take the default.
type Limits struct {
	Pixels int64 // width × height of a picture, default 1<<26 (67 million)
	Bytes  int64 // size of a picture's or an animation's file, default 256 MiB
	Frames int   // of a clip, default 1<<16
}

func (l Limits) fill() Limits {
	if l.Pixels <= 0 {
		l.Pixels = 1 << 26
	}
	if l.Bytes <= 0 {
		l.Bytes = 256 << 20
	}
	if l.Frames <= 0 {
		l.Frames = 1 << 16
	}
	return l
}

// size checks declared dimensions.
func (l Limits) size(w, h int) error {
	if w <= 0 || h <= 0 {
		return fmt.Errorf("it declares %d × %d pixels: nothing to see", w, h)
	}
	if int64(w) > l.Pixels/int64(h) {
		return fmt.Errorf("it declares %d × %d pixels, more than the limit of %d: scale it down first", w, h, l.Pixels)
	}
	return nil
}

// Error says what is wrong with a picture or a clip.
type Error struct {
	Path string
	Err  error
}

func (e *Error) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// flatten converts a decoded picture to RGB, transparent pixels over white.
// The only error is the end of ctx.
func flatten(ctx context.Context, src image.Image) (*Image, error) {
	b := src.Bounds()
	out := NewImage(b.Dx(), b.Dy())
	row := image.NewNRGBA(image.Rect(0, 0, b.Dx(), 1))
	for y := range out.Height {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if s, ok := src.(*image.NRGBA); ok {
			copy(row.Pix, s.Pix[s.PixOffset(b.Min.X, b.Min.Y+y):][:4*b.Dx()])
		} else if o, ok := src.(interface{ Opaque() bool }); ok && o.Opaque() || isOpaqueModel(src.ColorModel()) {
			draw.Draw(row, row.Rect, src, image.Pt(b.Min.X, b.Min.Y+y), draw.Src)
		} else {
			for x := range out.Width {
				row.Set(x, 0, src.At(b.Min.X+x, b.Min.Y+y))
			}
		}
		dst := out.Pix[3*y*out.Width:]
		for x := range out.Width {
			p := row.Pix[4*x:][:4]
			for c := range 3 {
				dst[3*x+c] = over(p[c], 255, p[3])
			}
		}
	}
	return out, nil
}

func isOpaqueModel(m color.Model) bool {
	return m == color.YCbCrModel || m == color.GrayModel || m == color.CMYKModel
}

// over lays a straight colour with alpha a over a background.
func over(c, below, a byte) byte {
	if a == 255 {
		return c
	}
	return byte((uint32(c)*uint32(a) + uint32(below)*uint32(255-a) + 127) / 255)
}
