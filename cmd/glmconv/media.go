package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/runtime/vision"
)

// fileList is a repeatable flag. cli's own slices split at commas, which file
// names may have.
type fileList []string

func (l *fileList) Set(s string) error { *l = append(*l, s); return nil }

func (l *fileList) String() string { return strings.Join(*l, " ") }

// mediaFlags are the flags of commands that show a model pictures and clips.
func mediaFlags() []cli.Flag {
	return []cli.Flag{
		&cli.GenericFlag{Name: "image", Value: &fileList{}, Usage: "show the picture `FILE` (repeatable): PNG, JPEG, GIF, WebP, BMP, TIFF"},
		&cli.GenericFlag{Name: "video", Value: &fileList{}, Usage: "show the clip `FILE` (repeatable): a folder of frames, animated GIF, APNG, WebP, MJPEG, Y4M; others need ffmpeg on PATH"},
		&cli.Float64Flag{Name: "video-fps", Usage: "frames per second of clips that do not say (default 24, as the reference assumes)"},
	}
}

// mediaFiles returns what the flags name.
func mediaFiles(c *cli.Context) (vision.Files, error) {
	f := vision.Files{FPS: c.Float64("video-fps")}
	if f.FPS < 0 {
		return f, usagef("--video-fps must be above 0")
	}
	for name, to := range map[string]*[]string{"image": &f.Images, "video": &f.Videos} {
		if l, ok := c.Generic(name).(*fileList); ok {
			*to = *l
		}
	}
	return f, nil
}

// withPlaceholders puts the media in front of a question that does not say
// where they belong.
func withPlaceholders(prompt string, f vision.Files) string {
	if f.Empty() || strings.Contains(prompt, "<|image|>") || strings.Contains(prompt, "<|video|>") {
		return prompt
	}
	prefix := ""
	if rest, ok := strings.CutPrefix(prompt, "[gMASK]<sop>"); ok {
		prefix, prompt = "[gMASK]<sop>", rest
	}
	return prefix + f.Placeholders() + prompt
}

// look decodes the files, expands the placeholders of a prompt and runs the
// vision tower. Without files it returns ids and nil.
func look(ctx context.Context, dir string, m *runtime.Model, tok *tokenizer.Tokenizer, ids []int, f vision.Files) ([]int, *runtime.Media, error) {
	if f.Empty() {
		return ids, nil, nil
	}
	if m.Config().Vision == nil {
		return nil, nil, usagef("--image, --video: %s is a %s checkpoint without a vision tower, it cannot look at anything", dir, m.Config().Family)
	}
	p, err := vision.Load(dir, m.Config())
	if err != nil {
		return nil, nil, err
	}
	items, err := p.Open(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	in, err := p.Prepare(m.Config(), ids, items, tok.EncodeOrdinary)
	if err != nil {
		return nil, nil, usagef("--image, --video: %w", err)
	}
	media, err := m.Media(ctx, in)
	return in.IDs, media, err
}
