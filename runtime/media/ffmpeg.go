package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
)

// errNoFFmpeg says what to do about a format that is not decoded here.
var errNoFFmpeg = errors.New("is none of the formats decoded here (a folder of pictures, GIF, APNG, WebP, MJPEG, Y4M); for others, such as H.264, an ffmpeg " +
	"must be on PATH, and none is")

// ffmpegClip decodes the first video stream of a file with ffmpeg.
func ffmpegClip(ctx context.Context, path string, l Limits) (*Clip, error) {
	tool, err := exec.LookPath("ffmpeg")
	if err != nil {
		return nil, errNoFFmpeg
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return y4mClip(ctx, func() (io.ReadCloser, error) {
		ctx, cancel := context.WithCancel(ctx)
		// "file:" keeps a name from being read as another protocol.
		cmd := exec.CommandContext(ctx, tool, "-v", "error", "-nostdin", "-i", "file:"+abs, "-map", "0:v:0",
			"-vf", "scale=out_color_matrix=bt601:out_range=tv", "-pix_fmt", "yuv444p", "-f", "yuv4mpegpipe", "-")
		p := &pipe{cmd: cmd, cancel: cancel}
		cmd.Stderr = &p.said
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			cancel()
			return nil, fmt.Errorf("ffmpeg does not start: %w", err)
		}
		p.Reader = out
		return p, nil
	}, l)
}

// pipe is the output of a running ffmpeg.
type pipe struct {
	io.Reader
	cmd    *exec.Cmd
	cancel context.CancelFunc
	said   tail
	ended  bool
}

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if errors.Is(err, io.EOF) && !p.ended { // a failure counts before the end of the frames does
		p.ended = true
		if e := p.cmd.Wait(); e != nil {
			return n, fmt.Errorf("ffmpeg cannot decode it: %w: %s", e, p.said.text())
		}
	}
	return n, err
}

// Close stops ffmpeg if it still runs.
func (p *pipe) Close() error {
	p.cancel()
	if !p.ended {
		p.ended = true
		_ = p.cmd.Wait()
	}
	return nil
}

// tail keeps the first bytes of what a program says.
type tail struct{ bytes.Buffer }

func (t *tail) Write(b []byte) (int, error) {
	if room := 400 - t.Len(); room > 0 {
		_, _ = t.Buffer.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

func (t *tail) text() string { return strings.Join(strings.Fields(t.String()), " ") }
