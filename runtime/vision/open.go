package vision

import (
	"context"
	"errors"

	"github.com/glmconv/glmconv/runtime/media"
)

// Files are the pictures and clips of a prompt.
type Files struct {
	Images, Videos []string
	FPS            float64 // of clips that do not say, 0: unknown
	Limits         media.Limits
}

// Empty reports whether there is nothing to look at.
func (f Files) Empty() bool { return len(f.Images)+len(f.Videos) == 0 }

// Open decodes and prepares files: pictures, then clips, one at a time.
// Errors name the file.
func (p *Processor) Open(ctx context.Context, f Files) ([]*Patches, error) {
	var out []*Patches
	for _, path := range f.Images {
		im, err := media.OpenImage(ctx, path, f.Limits)
		if err != nil {
			return nil, err
		}
		x, err := p.still(ctx, im)
		if err != nil {
			return nil, named(path, err)
		}
		out = append(out, x)
	}
	for _, path := range f.Videos {
		c, err := media.OpenClip(ctx, path, f.Limits)
		if err != nil {
			return nil, err
		}
		if c.Rate() == 0 && f.FPS > 0 {
			c.SetRate(f.FPS)
		}
		x, err := p.clip(ctx, c)
		if err != nil {
			return nil, named(path, err)
		}
		out = append(out, x)
	}
	return out, nil
}

// named puts the file in front of an error that does not name it.
func named(path string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if e, ok := err.(*media.Error); ok { //nolint:errorlint // only an outermost one names the file
		return e
	}
	return &media.Error{Path: path, Err: err}
}

// Placeholders is the text that shows the model n pictures and m clips, in the
// order of Open: what goes in front of a question (docs/facts/families.md 8.4).
func (f Files) Placeholders() string {
	s := ""
	for range f.Images {
		s += "<|begin_of_image|><|image|><|end_of_image|>"
	}
	for range f.Videos {
		s += "<|begin_of_video|><|video|><|end_of_video|>"
	}
	return s
}
