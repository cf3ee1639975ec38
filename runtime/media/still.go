package media

import (
	"bytes"
	"context"
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

// OpenImage decodes a picture. Errors are *Error, or the end of ctx.
func OpenImage(ctx context.Context, path string, l Limits) (*Image, error) {
	l = l.fill()
	data, err := readFile(path, l.Bytes)
	if err == nil {
		var im *Image
		if im, err = DecodeImage(ctx, data, l); err == nil {
			return im, nil
		}
	}
	return nil, fail(path, err)
}

func fail(path string, err error) error {
	var e *Error
	if errors.As(err, &e) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
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
// It returns soon after ctx ends, with its error.
func DecodeImage(ctx context.Context, data []byte, l Limits) (*Image, error) {
	l = l.fill()
	if len(data) == 0 {
		return nil, errors.New("the file is empty")
	}
	if !bytes.HasPrefix(data, pngSignature) { // of an APNG the default picture counts
		if a, err := openAnimation(data, l); a != nil || err != nil {
			return firstFrame(ctx, a, err)
		}
	}
	src, kind, err := decodeStd(ctx, data, l)
	if err != nil {
		return nil, err
	}
	im, err := flatten(ctx, src)
	if err != nil {
		return nil, err
	}
	if kind == "jpeg" {
		im = orient(im, exifOrientation(data))
	}
	return im, nil
}

// decodeStd runs a registered decoder after checking the declared size. The
// decoders are not ours and know no context: each works aside, is left where it
// is when ctx ends, and ends itself at what it reads next.
func decodeStd(ctx context.Context, data []byte, l Limits) (image.Image, string, error) {
	if ctx.Done() == nil {
		return decodeHere(ctx, data, l)
	}
	type answer struct {
		src  image.Image
		kind string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		src, kind, err := decodeHere(ctx, data, l)
		done <- answer{src, kind, err}
	}()
	select {
	case a := <-done:
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		return a.src, a.kind, a.err
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
}

// while is a reader that ends with a context.
type while struct {
	ctx context.Context
	r   io.Reader
}

func (w while) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.r.Read(p[:min(len(p), 1<<16)])
}

// decodeHere decodes. A panic in a decoder is an error here.
func decodeHere(ctx context.Context, data []byte, l Limits) (src image.Image, kind string, err error) {
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
	src, _, err = image.Decode(while{ctx, bytes.NewReader(data)})
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

func firstFrame(ctx context.Context, a *animation, err error) (first *Image, _ error) {
	if err != nil {
		return nil, err
	}
	err = a.each(ctx, func(int) bool { return true }, func(_ int, im *Image) error { first = im; return errStop })
	if !errors.Is(err, errStop) {
		return nil, err
	}
	return first, nil
}
