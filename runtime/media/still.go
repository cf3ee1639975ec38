package media

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // formats of Open
	_ "image/jpeg"
	_ "image/png"
	"io"
	"os"

	_ "golang.org/x/image/bmp"
	_ "golang.org/x/image/tiff"
	_ "golang.org/x/image/webp"

	"github.com/glmconv/glmconv/internal/fsx"
)

// OpenImage decodes a picture. Errors are *Error.
func OpenImage(path string, l Limits) (*Image, error) {
	l = l.fill()
	data, err := readFile(path, l.Bytes)
	if err == nil {
		var im *Image
		if im, err = DecodeImage(data, l); err == nil {
			return im, nil
		}
	}
	return nil, fail(path, err)
}

func fail(path string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	var in *fsx.InputError
	if errors.As(err, &in) {
		err = errors.New(in.Reason)
	}
	return &Error{path, err}
}

func readFile(path string, limit int64) ([]byte, error) {
	if i, err := os.Stat(path); err == nil && i.IsDir() {
		return nil, errors.New("is a folder: give it as a video, its pictures become the frames")
	}
	data, err := fsx.ReadRegular(path, limit)
	if errors.Is(err, fsx.ErrTooLarge) {
		err = fmt.Errorf("is larger than the limit of %d bytes", limit)
	}
	return data, err
}

// DecodeImage decodes the bytes of a picture; of an animation the first frame.
func DecodeImage(data []byte, l Limits) (*Image, error) {
	l = l.fill()
	if len(data) == 0 {
		return nil, errors.New("the file is empty")
	}
	if !bytes.HasPrefix(data, pngSignature) { // of an APNG the default picture counts
		if a, err := openAnimation(data, l); a != nil || err != nil {
			return firstFrame(a, err)
		}
	}
	src, kind, err := decodeStd(data, l)
	if err != nil {
		return nil, err
	}
	im := flatten(src)
	if kind == "jpeg" {
		im = orient(im, exifOrientation(data))
	}
	return im, nil
}

// decodeStd runs a registered decoder after checking the declared size. The
// decoders are not ours: a panic in one is an error here.
func decodeStd(data []byte, l Limits) (src image.Image, kind string, err error) {
	defer func() {
		if r := recover(); r != nil {
			src, err = nil, fmt.Errorf("cannot be decoded: %v", r)
		}
	}()
	c, kind, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		if errors.Is(err, image.ErrFormat) {
			return nil, "", errors.New("is not a picture that can be read (PNG, JPEG, GIF, WebP, BMP, TIFF)")
		}
		return nil, kind, broken(kind, err)
	}
	if err := l.size(c.Width, c.Height); err != nil {
		return nil, kind, err
	}
	if kind == "webp" {
		if w, h := webpInner(data); w*h > 0 { // need not be what the container says
			if err := l.size(w, h); err != nil {
				return nil, kind, err
			}
		}
	}
	src, _, err = image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, kind, broken(kind, err)
	}
	return src, kind, l.size(src.Bounds().Dx(), src.Bounds().Dy())
}

func broken(kind string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the %s data ends too early: the file is truncated", kind)
	}
	return fmt.Errorf("the %s data is damaged: %w", kind, err)
}

func firstFrame(a *animation, err error) (first *Image, _ error) {
	if err != nil {
		return nil, err
	}
	err = a.each(func(int) bool { return true }, func(_ int, im *Image) error { first = im; return errStop })
	if !errors.Is(err, errStop) {
		return nil, err
	}
	return first, nil
}
