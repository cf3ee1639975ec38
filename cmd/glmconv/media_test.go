package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/runtime/vision"
	"github.com/glmconv/glmconv/safetensors"
)

func TestMediaFlags(t *testing.T) {
	var got vision.Files
	app := &cli.App{Name: "x", Commands: []*cli.Command{{Name: "run", Flags: mediaFlags(), Action: func(c *cli.Context) (err error) {
		got, err = mediaFiles(c)
		return err
	}}}}
	require.NoError(t, app.Run([]string{"x", "run", "--image", "a,b.png", "--image=c.jpg", "--video", "d.y4m", "--video-fps", "12"}))
	assert.Equal(t, vision.Files{Images: []string{"a,b.png", "c.jpg"}, Videos: []string{"d.y4m"}, FPS: 12}, got)
	assert.Equal(t, []string{"x", "run", "--image", "a.png", "--", "DIR"}, permute(app, []string{"x", "run", "DIR", "--image", "a.png"}))
}

func TestWithPlaceholders(t *testing.T) {
	f := vision.Files{Images: []string{"a"}, Videos: []string{"b"}}
	const both = "<|begin_of_image|><|image|><|end_of_image|><|begin_of_video|><|video|><|end_of_video|>"
	assert.Equal(t, both+"What?", withPlaceholders("What?", f))
	assert.Equal(t, "[gMASK]<sop>"+both+"What?", withPlaceholders("[gMASK]<sop>What?", f))
	assert.Equal(t, "see <|image|>", withPlaceholders("see <|image|>", f))
	assert.Equal(t, "What?", withPlaceholders("What?", vision.Files{}))
}

func TestLook(t *testing.T) {
	ctx := context.Background()
	dir := testkit.Shared(t, "reference/nano-glm45v")
	golden := testkit.Shared(t, "reference/golden/nano-glm45v")
	m, err := runtime.Load(dir, runtime.Options{})
	require.NoError(t, err)
	defer func() { _ = m.Close() }()
	tok, err := tokenizer.Load(dir)
	require.NoError(t, err)
	folder := t.TempDir()
	for _, n := range []string{"frame0.png", "frame1.png", "frame2.png", "frame3.png"} {
		b, err := os.ReadFile(filepath.Join(golden, n))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, n), b, 0o600))
	}
	f := vision.Files{Images: []string{filepath.Join(golden, "image.png")}, Videos: []string{folder}, FPS: 2}
	ids, media, err := look(ctx, dir, m, tok, tok.Encode(withPlaceholders("Hello", f)), f)
	require.NoError(t, err)
	assert.Len(t, media.Slots, 15+24)
	assert.Len(t, media.Positions, len(ids))

	ids, media, err = look(ctx, dir, m, tok, []int{1, 2}, vision.Files{})
	require.NoError(t, err)
	assert.Nil(t, media)
	assert.Equal(t, []int{1, 2}, ids)

	_, _, err = look(ctx, dir, m, tok, []int{1, 2}, f)
	assert.Equal(t, exitUsage, codeOf(err), "no placeholders")
	f.Images = []string{filepath.Join(dir, "config.json")}
	_, _, err = look(ctx, dir, m, tok, []int{1, 2}, f)
	assert.Equal(t, exitBadInput, codeOf(err))
	assert.ErrorContains(t, err, "config.json: is not a picture")
	text, err := runtime.Load(testkit.Shared(t, "reference/nano-glm4moe"), runtime.Options{})
	require.NoError(t, err)
	defer func() { _ = text.Close() }()
	_, _, err = look(ctx, dir, text, tok, []int{1, 2}, f)
	assert.Equal(t, exitUsage, codeOf(err))
}

// TestRunGoldens: run --image and --video give the reference's greedy tokens.
func TestRunGoldens(t *testing.T) {
	dir, golden := testkit.Shared(t, "reference/nano-glm45v"), testkit.Shared(t, "reference/golden/nano-glm45v")
	f, err := safetensors.OpenFile(filepath.Join(golden, "golden.safetensors"))
	require.NoError(t, err)
	defer f.Close()
	ints := func(name string) (out []int) {
		info, ok := f.Tensor(name)
		require.True(t, ok, name)
		b := make([]byte, info.Size)
		require.NoError(t, f.ReadTensor(info, 0, b))
		for ; len(b) > 0; b = b[4:] {
			out = append(out, int(binary.LittleEndian.Uint32(b)))
		}
		return out
	}
	frames := t.TempDir()
	for _, n := range []string{"frame0.png", "frame1.png", "frame2.png", "frame3.png"} {
		b, err := os.ReadFile(filepath.Join(golden, n))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(frames, n), b, 0o600))
	}
	image, video := []string{"--image", filepath.Join(golden, "image.png")}, []string{"--video", frames, "--video-fps", "2"}
	const imageText = "[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>What is in the picture?<|assistant|>\n"
	const videoText = "[gMASK]<sop><|user|>\nLook: <|begin_of_video|><|video|><|end_of_video|> then answer.<|assistant|>\n"
	for _, c := range []struct {
		name string
		args []string
	}{
		{"image", append(image, "--prompt", imageText)},
		{"image", append(image, "--prompt-ids", strings.Trim(fmt.Sprint(ints("image.ids")), "[]"))}, // as a processor expanded it
		{"video", append(video, "--prompt", videoText)},
	} {
		var stdout, stderr bytes.Buffer
		app := newApp(&stdout, &stderr)
		args := append([]string{"glmconv", "run", "--json", "--ignore-eos", "--max-tokens", "24"}, c.args...)
		require.NoError(t, app.Run(append(args, dir)), stderr.String())
		var r runJSON
		require.NoError(t, json.Unmarshal(stdout.Bytes(), &r))
		assert.Equal(t, ints(c.name+".ids"), r.PromptIDs, c.name)
		assert.Equal(t, ints(c.name+".greedy"), r.Tokens, c.name)
	}
}
