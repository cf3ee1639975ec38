package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// visionModel is nano-glm45v with a chat template in its place.
func visionModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(testkit.Shared(t, "reference/nano-glm45v"))))
	tmpl, err := os.ReadFile("../../runtime/chat/testdata/glm45v.jinja")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "chat_template.jinja"), tmpl, 0o600))
	return dir
}

// run --chat shows pictures and clips where the template puts them, and nothing
// that is typed becomes a placeholder.
func TestRunChatMedia(t *testing.T) {
	dir, golden := visionModel(t), testkit.Shared(t, "reference/golden/nano-glm45v")
	image := filepath.Join(golden, "image.png")
	clip := t.TempDir()
	for _, n := range []string{"frame0.png", "frame1.png", "frame2.png", "frame3.png"} {
		b, err := os.ReadFile(filepath.Join(golden, n))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(clip, n), b, 0o600))
	}
	run := func(args ...string) (runJSON, error) {
		var stdout, stderr bytes.Buffer
		err := newApp(&stdout, &stderr).Run(append(append([]string{"glmconv", "run", "--json", "--ignore-eos", "--max-tokens", "3"}, args...), dir))
		var r runJSON
		if err == nil {
			require.NoError(t, json.Unmarshal(stdout.Bytes(), &r))
		}
		return r, err
	}
	talk := func(v any) string {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "talk.json")
		require.NoError(t, os.WriteFile(path, b, 0o600))
		return path
	}
	type part = map[string]any
	const picture, film = "<|begin_of_image|><|image|><|end_of_image|>", "<|begin_of_video|><|video|><|end_of_video|>"
	media := []string{"--image", image, "--video", clip, "--video-fps", "2"}

	want, err := run(append(media, "--prompt", "[gMASK]<sop><|user|>\n"+picture+film+"What?<|assistant|>")...)
	require.NoError(t, err)
	got, err := run(append(media, "--chat", "--prompt", "What?")...)
	require.NoError(t, err)
	assert.Equal(t, want.PromptIDs, got.PromptIDs)
	assert.Equal(t, want.Tokens, got.Tokens)

	// A typed marker is text; media of a conversation stand where it shows them, named or not.
	_, err = run("--image", image, "--chat", "--prompt", "see <|image|>"+picture)
	require.NoError(t, err)
	want, err = run(append(media, "--prompt", "[gMASK]<sop><|user|>\nFirst "+film+" then "+picture+"!/nothink<|assistant|>\n<think></think>\nyes<|user|>\nAnd?/nothink<|assistant|>\n<think></think>")...)
	require.NoError(t, err)
	for _, c := range []struct {
		video, image part
		args         []string
	}{
		{part{"type": "video"}, part{"type": "image"}, media},
		{part{"type": "video", "video": clip}, part{"type": "image_url", "image_url": part{"url": "file://" + image}}, media[4:]},
	} {
		file := talk([]any{
			part{"role": "user", "content": []any{part{"type": "text", "text": "First "}, c.video, part{"type": "text", "text": " then "}, c.image, part{"type": "text", "text": "!"}}},
			part{"role": "assistant", "content": "yes"},
			part{"role": "user", "content": "And?/nothink"},
		})
		got, err = run(append(c.args, "--chat", "--no-thinking", "--messages", file)...)
		require.NoError(t, err)
		assert.Equal(t, want.PromptIDs, got.PromptIDs)
	}

	one := talk([]any{part{"role": "user", "content": []any{part{"type": "image"}}}})
	for _, c := range []struct {
		args []string
		say  string
	}{
		{[]string{"--chat", "--messages", one}, "without naming a file"},
		{[]string{"--chat", "--messages", one, "--image", image, "--image", image}, "have no place"},
		{[]string{"--chat", "--messages", talk([]any{part{"role": "user", "content": []any{part{"type": "image", "url": "https://x/y.png"}}}})}, "not fetched"},
	} {
		_, err := run(c.args...)
		require.ErrorContains(t, err, c.say)
		assert.Equal(t, exitUsage, codeOf(err))
	}
}
