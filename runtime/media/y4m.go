package media

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const y4mMagic = "YUV4MPEG2"

// y4mHeader is the first line of a YUV4MPEG2 stream.
type y4mHeader struct {
	w, h   int
	rate   float64
	sx, sy int // chroma subsampling; sx 0: no chroma
	depth  int
	full   bool // full range
	alpha  bool // a further plane, ignored
}

// line reads up to a newline, at most 1024 bytes.
func line(r *bufio.Reader) (string, error) {
	var b []byte
	for len(b) < 1024 {
		c, err := r.ReadByte()
		if err != nil {
			if len(b) > 0 && errors.Is(err, io.EOF) {
				err = errTruncated
			}
			return "", err
		}
		if c == '\n' {
			return string(b), nil
		}
		b = append(b, c)
	}
	return "", errors.New("a Y4M header line is longer than 1024 bytes")
}

func readY4MHeader(r *bufio.Reader, l Limits) (*y4mHeader, error) {
	text, err := line(r)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the stream is empty")
		}
		return nil, err
	}
	fields := strings.Fields(text)
	if len(fields) == 0 || fields[0] != y4mMagic {
		return nil, errors.New("is no Y4M stream")
	}
	h := &y4mHeader{sx: 2, sy: 2, depth: 8}
	for _, f := range fields[1:] {
		v := f[1:]
		switch f[0] {
		case 'W':
			h.w, err = strconv.Atoi(v)
		case 'H':
			h.h, err = strconv.Atoi(v)
		case 'F':
			num, den, _ := strings.Cut(v, ":")
			a, _ := strconv.ParseFloat(num, 64)
			b, _ := strconv.ParseFloat(den, 64)
			h.rate = usableRate(a, b)
		case 'C':
			err = h.colour(v)
		case 'X':
			h.full = h.full || v == "COLORRANGE=FULL"
		}
		if err != nil {
			return nil, fmt.Errorf("Y4M header field %q: %w", f, err)
		}
	}
	return h, l.size(h.w, h.h)
}

// colour reads the C field, such as 420jpeg, 422, 444p10, mono.
func (h *y4mHeader) colour(v string) error {
	switch {
	case strings.HasPrefix(v, "mono"):
		h.sx, v = 0, strings.TrimPrefix(v, "mono")
		if v != "" {
			v = "p" + v // mono16
		}
	case v == "444alpha":
		h.sx, h.sy, h.alpha, v = 1, 1, true, ""
	default:
		kinds := map[string][2]int{"420": {2, 2}, "422": {2, 1}, "444": {1, 1}, "411": {4, 1}}
		s, ok := kinds[v[:min(3, len(v))]]
		if !ok {
			return errors.New("unknown colour space")
		}
		h.sx, h.sy = s[0], s[1]
		switch v = v[3:]; v {
		case "jpeg", "mpeg2", "paldv":
			v = ""
		}
	}
	if v != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(v, "p"))
		if err != nil || n < 8 || n > 16 || v[0] != 'p' {
			return errors.New("unknown colour space")
		}
		h.depth = n
	}
	return nil
}

// chroma returns the size of a chroma plane.
func (h *y4mHeader) chroma() (w, height int) {
	if h.sx == 0 {
		return 0, 0
	}
	return (h.w + h.sx - 1) / h.sx, (h.h + h.sy - 1) / h.sy
}

// bytes returns the size of a frame.
func (h *y4mHeader) bytes() int64 {
	cw, ch := h.chroma()
	n := int64(h.w)*int64(h.h) + 2*int64(cw)*int64(ch)
	if h.alpha {
		n += int64(h.w) * int64(h.h)
	}
	if h.depth > 8 {
		n *= 2
	}
	return n
}

// rgb converts a frame, BT.601.
func (h *y4mHeader) rgb(data []byte) *Image {
	get := func(i int) float32 { return float32(data[i]) }
	if h.depth > 8 {
		scale := float32(int(1) << (h.depth - 8))
		get = func(i int) float32 { return float32(int(data[2*i])|int(data[2*i+1])<<8) / scale }
	}
	luma, chroma, black := float32(255.0/219), float32(255.0/224), float32(16)
	if h.full {
		luma, chroma, black = 1, 1, 0
	}
	cw, ch := h.chroma()
	im := NewImage(h.w, h.h)
	for y := range h.h {
		for x := range h.w {
			l := (get(y*h.w+x) - black) * luma
			var u, v float32
			if h.sx > 0 {
				c := h.w*h.h + y/h.sy*cw + x/h.sx
				u, v = (get(c)-128)*chroma, (get(c+cw*ch)-128)*chroma
			}
			p := im.Pix[3*(y*h.w+x):]
			p[0], p[1], p[2] = level(l+float32(1.402*v)), level(l-float32(0.344136*u)-float32(0.714136*v)), level(l+float32(1.772*u))
		}
	}
	return im
}

func level(v float32) byte { return byte(min(max(v+0.5, 0), 255)) }

// y4mClip makes a clip of a YUV4MPEG2 stream that can be opened again.
func y4mClip(ctx context.Context, open func() (io.ReadCloser, error), l Limits) (*Clip, error) {
	c := &Clip{}
	walk := func(want func(int) bool, fn func(*y4mHeader, int, []byte) error) (err error) {
		f, err := open()
		if err != nil {
			return err
		}
		defer func() {
			if e := f.Close(); err == nil {
				err = e
			}
		}()
		r := bufio.NewReaderSize(f, 1<<16)
		h, err := readY4MHeader(r, l)
		if err != nil {
			return err
		}
		c.w, c.h, c.rate = h.w, h.h, max(c.rate, h.rate)
		var buf []byte
		for i := 0; ; i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			text, err := line(r)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if text != "FRAME" && !strings.HasPrefix(text, "FRAME ") {
				return fmt.Errorf("frame %d does not begin with FRAME", i)
			}
			if i >= l.Frames {
				return fmt.Errorf("it has more than the limit of %d frames", l.Frames)
			}
			if !want(i) {
				if n, err := io.CopyN(io.Discard, r, h.bytes()); n < h.bytes() {
					return fmt.Errorf("frame %d: %w", i, early(err))
				}
				c.frames = max(c.frames, i+1)
				continue
			}
			if buf, err = readFrame(r, buf, h.bytes()); err != nil {
				return fmt.Errorf("frame %d: %w", i, early(err))
			}
			if err := fn(h, i, buf); err != nil {
				return err
			}
		}
	}
	err := walk(func(int) bool { return false }, nil)
	if err == nil && c.frames == 0 {
		err = errors.New("the clip has no frames")
	}
	c.walk = func(want func(int) bool, fn func(int, *Image) error) error {
		return walk(want, func(h *y4mHeader, i int, b []byte) error { return fn(i, h.rgb(b)) })
	}
	return c, err
}

// readFrame reads n bytes without trusting n: memory grows with what is there.
func readFrame(r io.Reader, buf []byte, n int64) ([]byte, error) {
	if int64(cap(buf)) >= n {
		buf = buf[:n]
		_, err := io.ReadFull(r, buf)
		return buf, err
	}
	b := bytes.NewBuffer(buf[:0])
	if _, err := io.CopyN(b, r, n); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func early(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}
