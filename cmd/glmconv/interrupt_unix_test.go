//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
)

// stop runs a command line, sends signals some time after its start, and
// returns its exit code, how long after the first signal it ended, and what it
// said.
func stop(t *testing.T, after time.Duration, signals int, args ...string) (code int, took time.Duration, errs string) {
	t.Helper()
	cmd := exec.Command("glmconv", args...)
	var b bytes.Buffer
	cmd.Stderr = &b
	require.NoError(t, cmd.Start())
	time.Sleep(after)
	start := time.Now()
	for range signals {
		_ = cmd.Process.Signal(syscall.SIGINT)
		time.Sleep(30 * time.Millisecond)
	}
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), time.Since(start), b.String()
}

// TestInterrupts: every command ends within a second of a signal, whatever it
// is doing, says how to go on, and a result never looks finished.
func TestInterrupts(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector slows every phase down")
	}
	// What is left after the grace: the process has to be scheduled and to end.
	const most = grace + 1500*time.Millisecond
	src := bigSource(t)
	tmp := t.TempDir()
	ids := filepath.Join(tmp, "ids.json")
	require.NoError(t, os.WriteFile(ids, []byte("[["+strings.Repeat("1,", 400)+"2]]"), 0o644))
	stopped := 0
	for i, args := range [][]string{
		{"quantize", "--scheme", "w8a8", src}, {"check", "--weights", src}, {"diff", src, src}, {"verify", "--state", "none", src, src},
		{"run", src, "--prompt-ids", "1,2,3", "--max-tokens", "500", "--ignore-eos"}, {"logits", src, "--token-ids", ids, "--out", filepath.Join(tmp, "x.safetensors")},
		{"mtp-remap", src, "--out", filepath.Join(tmp, "remapped")}, {"demo", "--report", ""},
	} {
		for j, after := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond} {
			line := args
			if args[0] == "quantize" {
				line = append(line[:len(line):len(line)], filepath.Join(tmp, fmt.Sprint(i, j)))
			}
			code, took, said := stop(t, after, 1, line...)
			assert.Less(t, took, most, "%v after %v: %s", line, after, said)
			if code == exitInterrupted {
				stopped++
				assert.Contains(t, said, "hint: ", "%v after %v", line, after)
				assert.NoFileExists(t, filepath.Join(line[len(line)-1], "glmconv-manifest.json"))
			}
		}
	}
	assert.NoFileExists(t, filepath.Join(tmp, "x.safetensors"))
	assert.Greater(t, stopped, 6)
	t.Logf("%d of 16 were stopped, the others had ended", stopped)
}

// TestInterruptsWhereNothingLooks stops a command in a phase that does not look
// for signals, the loading of a large tokenizer: after the grace, and at once
// with a second signal.
func TestInterruptsWhereNothingLooks(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector slows every phase down")
	}
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, demo.Extract(dir))
	var b bytes.Buffer
	b.WriteString(`{"model":{"type":"BPE","vocab":{"a":0`)
	for i := 1; b.Len() < 90_000_000; i++ {
		fmt.Fprintf(&b, ",\"%d\":%d", i, i)
	}
	b.WriteString(`},"merges":[]}}`)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer.json"), b.Bytes(), 0o644))
	for signals, most := range map[int]time.Duration{1: grace + 1500*time.Millisecond, 2: grace} {
		took := time.Hour
		for try := 0; try < 5 && took >= most; try++ { // a busy machine may be late once, not always
			code, once, said := stop(t, 300*time.Millisecond, signals, "run", dir, "--prompt", "a")
			assert.Equal(t, exitInterrupted, code, said)
			assert.Contains(t, said, "glmconv: run was interrupted\nhint: ")
			took = min(took, once)
		}
		assert.Less(t, took, most, "%d signals", signals)
		t.Logf("%d signals: ended after %v", signals, took.Round(time.Millisecond))
	}
}

// TestInterruptsOfInputs stops commands while they render a template, cut a long
// text into tokens, or decode pictures and clips.
func TestInterruptsOfInputs(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector slows every phase down")
	}
	tmp := t.TempDir()
	dir := filepath.Join(tmp, "model")
	require.NoError(t, demo.Extract(dir))
	write := func(name string, data []byte) string {
		path := filepath.Join(tmp, name)
		require.NoError(t, os.WriteFile(path, data, 0o644))
		return path
	}
	template := filepath.Join(dir, "chat_template.jinja")
	require.NoError(t, os.WriteFile(template, []byte(`{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}`), 0o644))
	text := write("text", bytes.Repeat([]byte("a"), 48<<20)) // one piece
	talk := write("talk", append(append([]byte(`{"messages":[{"role":"user","content":"`), bytes.Repeat([]byte("b"), 16<<20)...), `"}]}`...))
	var picture bytes.Buffer
	require.NoError(t, (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&picture, image.NewGray16(image.Rect(0, 0, 8000, 8000))))
	still := write("still.png", picture.Bytes())
	clip := append([]byte("YUV4MPEG2 W1024 H1024 F24:1 C420jpeg\n"), bytes.Repeat(append([]byte("FRAME\n"), make([]byte, 1024*1024*3/2)...), 150)...)
	moving := write("moving.y4m", clip)
	lines := map[string][]string{
		"template":         {"run", dir, "--chat", "--prompt", "a", "--max-tokens", "1"},
		"text":             {"calibrate", "--text", text, dir, filepath.Join(tmp, "a")},
		"text to judge by": {"verify", "--state", "none", "--text", text, dir, dir},
		"conversation":     {"calibrate", "--text", talk, dir, filepath.Join(tmp, "b")},
	}
	seeing := visionModel(t)
	eyes := write("eyes.json", []byte("[[1,2,3]]"))
	for name, flag := range map[string][2]string{"picture of logits": {"--image", still}, "clip of logits": {"--video", moving}} {
		lines[name] = []string{"logits", seeing, "--token-ids", eyes, flag[0], flag[1], "--out", filepath.Join(tmp, "none.safetensors")}
	}
	lines["picture"] = []string{"run", seeing, "--chat", "--prompt", "a", "--image", still, "--max-tokens", "1"}
	lines["clip"] = []string{"run", seeing, "--chat", "--prompt", "a", "--video", moving, "--max-tokens", "1"}
	stopped := 0
	for name, line := range lines {
		for _, after := range []time.Duration{60 * time.Millisecond, 250 * time.Millisecond} {
			code, took, said := stop(t, after, 1, line...)
			assert.Less(t, took, grace+1500*time.Millisecond, "%s after %v: %s", name, after, said)
			t.Logf("%s: exit %d %v after the signal", name, code, took.Round(time.Millisecond))
			if code == exitInterrupted {
				stopped++
				assert.Contains(t, said, "was interrupted", name)
			}
		}
	}
	assert.Greater(t, stopped, len(lines))
	assert.NoFileExists(t, filepath.Join(tmp, "none.safetensors"))
}

// TestInterruptsOfServe stops a server while it generates and while it cuts a
// long text into tokens: it ends in time, and as asked.
func TestInterruptsOfServe(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector slows every phase down")
	}
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, demo.Extract(dir))
	for name, c := range map[string]struct{ path, body string }{
		"nothing to do":     {"", ""},
		"an answer":         {"/v1/completions", `{"prompt":[1,2,3],"max_tokens":400,"ignore_eos":true,"stream":true}`},
		"many long answers": {"/v1/completions", `{"prompt":[` + strings.Repeat("[1,2,3],", 60) + `[4]],"max_tokens":400,"ignore_eos":true}`},
		"a long text":       {"/tokenize", `{"prompt":"` + strings.Repeat("a", 32<<20) + `"}`},
	} {
		cmd := exec.Command("glmconv", "serve", dir, "--port", "0", "--grace", "300ms")
		out, err := cmd.StderrPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		_, url, ok := strings.Cut(strings.TrimSpace(line), " on ")
		require.True(t, ok, line)
		if c.path != "" {
			go func() {
				if resp, err := http.Post(url+c.path, "application/json", strings.NewReader(c.body)); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			}()
			time.Sleep(200 * time.Millisecond)
		}
		start := time.Now()
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait()
		took := time.Since(start)
		assert.Less(t, took, grace+1500*time.Millisecond, name)
		assert.Contains(t, []int{exitOK, exitInterrupted}, cmd.ProcessState.ExitCode(), name)
		t.Logf("%s: exit %d %v after the signal", name, cmd.ProcessState.ExitCode(), took.Round(time.Millisecond))
	}
}
