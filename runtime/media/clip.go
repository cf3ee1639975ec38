package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
)

// Clip is a sequence of frames of one size. It holds no frame: every Each
// decodes again.
type Clip struct {
	path   string
	frames int
	rate   float64
	w, h   int
	walk   func(want func(int) bool, fn func(int, *Image) error) error
}

// Frames returns the number of frames, at least 1.
func (c *Clip) Frames() int { return c.frames }

// Rate returns the frames per second, 0 when the clip does not say.
func (c *Clip) Rate() float64 { return c.rate }

// SetRate sets the frames per second, for clips that do not say.
func (c *Clip) SetRate(fps float64) { c.rate = fps }

// Size returns the pixels of a frame.
func (c *Clip) Size() (w, h int) { return c.w, c.h }

// Each decodes the frames in order and gives those to fn that want asks for.
// An error of fn ends the walk and is returned. Errors of the clip are *Error.
func (c *Clip) Each(want func(i int) bool, fn func(i int, im *Image) error) error {
	if err := c.walk(want, fn); err != nil {
		return fail(c.path, err)
	}
	return nil
}

// OpenClip opens a folder of pictures, an animation (GIF, APNG, WebP), Motion
// JPEG, YUV4MPEG2, or whatever an ffmpeg on PATH can read. Errors are *Error, or
// the end of ctx, which ends Each too.
func OpenClip(ctx context.Context, path string, l Limits) (*Clip, error) {
	l = l.fill()
	c, err := openClip(ctx, path, l)
	if err != nil {
		return nil, fail(path, err)
	}
	c.path = path
	return c, nil
}

func openClip(ctx context.Context, path string, l Limits) (*Clip, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return openFolder(ctx, path, l)
	}
	head, err := peek(path, 64)
	if err != nil {
		return nil, err
	}
	file := func() (io.ReadCloser, error) { return fsx.OpenRegular(path) }
	switch {
	case len(head) == 0:
		return nil, errors.New("the file is empty")
	case bytes.HasPrefix(head, []byte(y4mMagic)):
		return y4mClip(ctx, file, l)
	case bytes.HasPrefix(head, []byte{0xFF, 0xD8, 0xFF}):
		return mjpegClip(ctx, file, l)
	case isPicture(head):
		data, err := readFile(path, l.Bytes)
		if err != nil {
			return nil, err
		}
		a, err := openAnimation(data, l)
		if err != nil {
			return nil, err
		}
		if a != nil {
			return &Clip{frames: len(a.parts), rate: a.rate(), w: a.w, h: a.h, walk: func(want func(int) bool, fn func(int, *Image) error) error { return a.each(ctx, want, fn) }}, nil
		}
		return stillClip(ctx, data, l)
	}
	return ffmpegClip(ctx, path, l)
}

func peek(path string, n int) ([]byte, error) {
	f, err := fsx.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	n, err = io.ReadFull(f, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return b[:n], err
}

func isPicture(head []byte) bool {
	for _, m := range []string{"GIF8", string(pngSignature), "BM", "II*\x00", "MM\x00*"} {
		if bytes.HasPrefix(head, []byte(m)) {
			return true
		}
	}
	return len(head) >= 12 && string(head[:4]) == "RIFF" && string(head[8:12]) == "WEBP"
}

// stillClip shows a picture for one frame.
func stillClip(ctx context.Context, data []byte, l Limits) (*Clip, error) {
	im, err := DecodeImage(ctx, data, l)
	if err != nil {
		return nil, err
	}
	return &Clip{frames: 1, w: im.Width, h: im.Height, walk: func(want func(int) bool, fn func(int, *Image) error) error {
		if want(0) {
			return fn(0, im)
		}
		return nil
	}}, nil
}

var pictureNames = []string{".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"}

// openFolder makes a clip of the pictures in a folder.
func openFolder(ctx context.Context, path string, l Limits) (*Clip, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && slices.Contains(pictureNames, strings.ToLower(filepath.Ext(e.Name()))) {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return nil, errors.New("the folder has no pictures (PNG, JPEG, GIF, WebP, BMP, TIFF)")
	}
	if len(names) > l.Frames {
		return nil, fmt.Errorf("it has more than the limit of %d frames", l.Frames)
	}
	slices.SortFunc(names, byNumber)
	first, err := OpenImage(ctx, filepath.Join(path, names[0]), l)
	if err != nil {
		return nil, err
	}
	return &Clip{frames: len(names), w: first.Width, h: first.Height, walk: func(want func(int) bool, fn func(int, *Image) error) error {
		for i, n := range names {
			if !want(i) {
				continue
			}
			im, err := OpenImage(ctx, filepath.Join(path, n), l)
			if err == nil {
				err = fn(i, im)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

// byNumber compares names with runs of digits by value: frame2 before frame10.
func byNumber(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		n, m := digits(x), digits(y)
		if n > 0 && m > 0 {
			p, q := strings.TrimLeft(x[:n], "0"), strings.TrimLeft(y[:m], "0")
			if len(p) != len(q) {
				return len(p) - len(q)
			}
			if c := strings.Compare(p, q); c != 0 {
				return c
			}
			x, y = x[n:], y[m:]
			continue
		}
		if x[0] != y[0] {
			return int(x[0]) - int(y[0])
		}
		x, y = x[1:], y[1:]
	}
	if c := len(x) - len(y); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// usableRate turns a fraction into frames per second, 0 if it is not usable.
func usableRate(num, den float64) float64 {
	if r := num / den; r > 0 && !math.IsInf(r, 0) {
		return r
	}
	return 0
}
