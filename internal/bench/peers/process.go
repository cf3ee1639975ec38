package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/glmconv/glmconv/internal/rss"
)

// usage is what a process and the children it waited for took.
type usage struct {
	wall, cpu time.Duration
	peak      int64 // bytes resident at most; 0 where the system does not tell
}

// measured runs a program that writes the folder out, which is removed first,
// and then flushes every file in it: a result counts when it is on the disk.
func measured(ctx context.Context, out string, env []string, name string, args ...string) (u usage, err error) {
	if err := os.RemoveAll(out); err != nil {
		return u, err
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	start := time.Now()
	if u.peak, err = rss.Run(cmd); err != nil {
		return u, fmt.Errorf("%s: %w: %s", filepath.Base(name), err, lastError(log.String()))
	}
	if err := flush(out); err != nil {
		return u, err
	}
	u.wall = time.Since(start)
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return u, nil
}

// flush flushes the files of a folder to the disk.
func flush(dir string) error {
	return filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(err, os.ErrPermission) {
			f, err = os.Open(name)
		}
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// warm reads all files of a folder, so that the system has them in memory.
func warm(dir string) error {
	buf := make([]byte, 4<<20)
	return filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		for err == nil {
			_, err = f.Read(buf)
		}
		return f.Close()
	})
}

// lastError picks the line of a log that says why a program ended.
func lastError(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if l := strings.TrimSpace(lines[i]); strings.Contains(l, "rror") {
			return l[:min(len(l), 300)]
		}
	}
	l := strings.TrimSpace(lines[len(lines)-1])
	return l[:min(len(l), 300)]
}
