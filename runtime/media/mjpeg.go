package media

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
)

// nextJPEG returns the next picture of a stream of JPEGs, io.EOF after the
// last. Bytes between pictures are skipped. limit bounds a picture's size.
func nextJPEG(r *bufio.Reader, limit int64) ([]byte, error) {
	if err := startOfJPEG(r); err != nil {
		return nil, err
	}
	out := []byte{0xFF, 0xD8}
	read := func() (byte, error) {
		b, err := r.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errTruncated
			}
			return 0, err
		}
		if int64(len(out)) >= limit {
			return 0, fmt.Errorf("a frame is larger than the limit of %d bytes", limit)
		}
		out = append(out, b)
		return b, nil
	}
	inScan := false
	for {
		b, err := read()
		if err != nil {
			return nil, err
		}
		if b != 0xFF {
			if !inScan {
				return nil, errors.New("the jpeg data is damaged: no marker where one must be")
			}
			continue
		}
		for b == 0xFF {
			if b, err = read(); err != nil {
				return nil, err
			}
		}
		switch {
		case b == 0 && inScan, b >= 0xD0 && b <= 0xD7, b == 1: // stuffed byte, restart, TEM
		case b == 0xD9:
			return out, nil
		default:
			hi, err := read()
			if err != nil {
				return nil, err
			}
			lo, err := read()
			if err != nil {
				return nil, err
			}
			for n := int(hi)<<8 | int(lo); n > 2; n-- {
				if _, err = read(); err != nil {
					return nil, err
				}
			}
			inScan = b == 0xDA
		}
	}
}

// startOfJPEG reads up to and past the next start marker.
func startOfJPEG(r *bufio.Reader) error {
	for prev := byte(0); ; {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if prev == 0xFF && b == 0xD8 {
			return nil
		}
		prev = b
	}
}

// mjpegClip makes a clip of JPEGs one after the other. The stream does not say
// its rate.
func mjpegClip(ctx context.Context, open func() (io.ReadCloser, error), l Limits) (*Clip, error) {
	c := &Clip{}
	err := eachJPEG(ctx, open, l, func(i int, data []byte) error {
		if i >= l.Frames {
			return fmt.Errorf("it has more than the limit of %d frames", l.Frames)
		}
		c.frames++
		if i > 0 {
			return nil
		}
		im, err := DecodeImage(ctx, data, l)
		if err == nil {
			c.w, c.h = im.Width, im.Height
		}
		return err
	})
	if err == nil && c.frames == 0 {
		err = errors.New("the clip has no frames")
	}
	c.walk = func(want func(int) bool, fn func(int, *Image) error) error {
		return eachJPEG(ctx, open, l, func(i int, data []byte) error {
			if !want(i) {
				return nil
			}
			im, err := DecodeImage(ctx, data, l)
			if err != nil {
				return fmt.Errorf("frame %d: %w", i, err)
			}
			return fn(i, im)
		})
	}
	return c, err
}

func eachJPEG(ctx context.Context, open func() (io.ReadCloser, error), l Limits, fn func(i int, data []byte) error) error {
	f, err := open()
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<16)
	for i := 0; ; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := nextJPEG(r, l.Bytes)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		if err := fn(i, data); err != nil {
			return err
		}
	}
}
