package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/draw"
)

// errStop ends a walk over frames early.
var errStop = errors.New("stop")

// disposal says what becomes of a frame's area before the next one.
type disposal uint8

const (
	keep disposal = iota
	clearArea
	restore
)

// part is a frame of an animation as its container describes it. A decoder for
// stills gets it as a file of its own, so that one frame is in memory at a time.
type part struct {
	area    image.Rectangle
	seconds float64
	dispose disposal
	replace bool // do not blend with what is there
	file    func() []byte
}

// animation is a container taken apart.
type animation struct {
	w, h  int
	parts []part
	l     Limits
}

var errTruncated = errors.New("the file ends in the middle of a frame: it is truncated")

// openAnimation takes a GIF, an animated PNG or an animated WebP apart. It
// returns nil, nil for everything else.
func openAnimation(data []byte, l Limits) (*animation, error) {
	var a *animation
	var err error
	switch {
	case bytes.HasPrefix(data, []byte("GIF8")):
		a, err = splitGIF(data, l)
	case bytes.HasPrefix(data, pngSignature):
		a, err = splitAPNG(data, l)
	case len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		a, err = splitWebP(data, l)
	}
	if a == nil || err != nil {
		return nil, err
	}
	if err := l.size(a.w, a.h); err != nil {
		return nil, err
	}
	if len(a.parts) == 0 {
		return nil, errors.New("the animation has no frames")
	}
	a.l = l
	return a, nil
}

func (a *animation) add(p part, l Limits) error {
	if len(a.parts) >= l.Frames {
		return fmt.Errorf("it has more than the limit of %d frames", l.Frames)
	}
	if p.area.Empty() || !p.area.In(image.Rect(0, 0, a.w, a.h)) {
		return fmt.Errorf("frame %d covers %v of a canvas of %d × %d", len(a.parts), p.area, a.w, a.h)
	}
	a.parts = append(a.parts, p)
	return nil
}

// rate is the mean number of frames per second. Without any delay, viewers show
// ten.
func (a *animation) rate() float64 {
	sum := 0.0
	for _, p := range a.parts {
		sum += p.seconds
	}
	if sum <= 0 {
		return 10
	}
	return float64(len(a.parts)) / sum
}

// each draws the frames one after the other; fn gets those that want asks for.
func (a *animation) each(ctx context.Context, want func(int) bool, fn func(int, *Image) error) error {
	canvas := image.NewNRGBA(image.Rect(0, 0, a.w, a.h))
	var before *image.NRGBA
	for i, p := range a.parts {
		src, _, err := decodeStd(ctx, p.file(), a.l)
		if err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		if src.Bounds().Size() != p.area.Size() {
			return fmt.Errorf("frame %d: the picture has other dimensions than the frame", i)
		}
		if p.dispose == restore {
			before = image.NewNRGBA(p.area)
			draw.Draw(before, p.area, canvas, p.area.Min, draw.Src)
		}
		lay(canvas, p.area, src, p.replace)
		if want(i) {
			im, err := flatten(ctx, canvas)
			if err == nil {
				err = fn(i, im)
			}
			if err != nil {
				return err
			}
		}
		switch p.dispose {
		case clearArea:
			draw.Draw(canvas, p.area, image.Transparent, image.Point{}, draw.Src)
		case restore:
			draw.Draw(canvas, p.area, before, p.area.Min, draw.Src)
		}
	}
	return nil
}

// lay draws a frame. Opaque and fully transparent pixels stay exact.
func lay(canvas *image.NRGBA, area image.Rectangle, src image.Image, replace bool) {
	op := draw.Over
	if replace {
		op = draw.Src
	}
	draw.Draw(canvas, area, src, src.Bounds().Min, op)
}

// splitGIF finds the frames of a GIF (87a, 89a).
func splitGIF(data []byte, l Limits) (*animation, error) {
	if len(data) < 13 {
		return nil, errTruncated
	}
	table := func(flags byte) int {
		if flags&0x80 == 0 {
			return 0
		}
		return 3 << (flags&7 + 1)
	}
	a := &animation{w: int(binary.LittleEndian.Uint16(data[6:])), h: int(binary.LittleEndian.Uint16(data[8:]))}
	at := 13 + table(data[10])
	if at > len(data) {
		return nil, errTruncated
	}
	head := data[:at]
	var control []byte
	for at < len(data) && data[at] != 0x3B {
		start := at
		switch data[at] {
		case 0x21: // extension
			end, ok := subBlocks(data, at+2)
			if !ok {
				return nil, errTruncated
			}
			if data[at+1] == 0xF9 && end-at >= 8 {
				control = data[at:end]
			}
			at = end
		case 0x2C: // frame
			if at+10 > len(data) {
				return nil, errTruncated
			}
			x, y := int(binary.LittleEndian.Uint16(data[at+1:])), int(binary.LittleEndian.Uint16(data[at+3:]))
			w, h := int(binary.LittleEndian.Uint16(data[at+5:])), int(binary.LittleEndian.Uint16(data[at+7:]))
			end, ok := subBlocks(data, at+10+table(data[at+9])+1)
			if !ok {
				return nil, errTruncated
			}
			p, c := part{area: image.Rect(x, y, x+w, y+h)}, control
			if c != nil {
				p.seconds = float64(binary.LittleEndian.Uint16(c[4:])) / 100
				switch c[3] >> 2 & 7 {
				case 2:
					p.dispose = clearArea
				case 3:
					p.dispose = restore
				}
			}
			p.file = func() []byte { return join(head, c, data[start:end], []byte{0x3B}) }
			if err := a.add(p, l); err != nil {
				return nil, err
			}
			control, at = nil, end
		default:
			return nil, fmt.Errorf("the gif data is damaged: block type %#02x at byte %d", data[at], at)
		}
	}
	return a, nil
}

// subBlocks returns the end of a chain of sub-blocks.
func subBlocks(data []byte, at int) (end int, ok bool) {
	for at < len(data) {
		n := int(data[at])
		at += n + 1
		if n == 0 {
			return at, true
		}
	}
	return 0, false
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
