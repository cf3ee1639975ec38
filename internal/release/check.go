package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// check builds everything twice, from two folders, and compares; then it installs
// and runs what this machine can. What it cannot, it says.
func (b *build) check(dir string, fresh bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	first, second := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	sources := []string{filepath.Join(dir, "sources"), filepath.Join(dir, "other", "sources")}
	for _, to := range sources {
		if err := b.copySources(to); err != nil {
			return err
		}
	}
	for i, out := range []string{first, second} {
		one := *b
		one.root = sources[i]
		if fresh && i == 1 {
			one.cache = filepath.Join(dir, "cache")
		}
		start := time.Now()
		if err := one.all(out); err != nil {
			return err
		}
		fmt.Printf("built %s of %.12s in %.0f s\n", b.version, b.commit, time.Since(start).Seconds())
	}
	if err := equal(first, second); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(out, scratch string) error
	}{
		{"image", b.checkImage}, {"wheel", b.checkWheel}, {"deb", b.checkDeb}, {"rpm", b.checkRPM}, {"manual pages", b.checkManuals}, {"formula", b.checkFormula}, {"size", b.checkSize},
	} {
		scratch, err := os.MkdirTemp(dir, "try")
		if err != nil {
			return err
		}
		if err := step.do(first, scratch); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	fmt.Println("release: all checks passed")
	return nil
}

// copySources copies what git tracks, as it is in the folder.
func (b *build) copySources(to string) error {
	list, err := b.git("ls-files", "-z")
	if err != nil {
		return err
	}
	for _, name := range strings.Split(strings.TrimRight(list, "\x00"), "\x00") {
		from := filepath.Join(b.root, name)
		st, err := os.Lstat(from)
		if err != nil || !st.Mode().IsRegular() {
			continue // removed and not yet committed, or a link that no build reads
		}
		body, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), body, st.Mode()); err != nil {
			return err
		}
	}
	return nil
}

// equal compares two builds file by file.
func equal(first, second string) error {
	a, err := sumsOf(first)
	if err != nil {
		return err
	}
	b, err := sumsOf(second)
	if err != nil {
		return err
	}
	var differ []string
	for name, sum := range a {
		if b[name] != sum {
			differ = append(differ, name)
		}
	}
	if slices.Sort(differ); len(differ) > 0 || len(a) != len(b) {
		return fmt.Errorf("two builds differ: %s (%d and %d files)", strings.Join(differ, ", "), len(a), len(b))
	}
	fmt.Printf("two builds have equal checksums: %d files\n", len(a))
	return nil
}

// missing says that something was not tried.
func missing(tool, what string) bool {
	if _, err := exec.LookPath(tool); err == nil {
		return false
	}
	fmt.Printf("release: *** %s IS ABSENT: %s ***\n", strings.ToUpper(tool), what)
	return true
}

// exitOf runs a program and returns its exit code and what it printed.
func exitOf(dir, program string, args ...string) (int, string, error) {
	cmd := exec.Command(program, args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return 0, "", err
	}
	return cmd.ProcessState.ExitCode(), out.String(), nil
}

// must runs a program that has to end with 0.
func must(dir, program string, args ...string) (string, error) {
	code, out, err := exitOf(dir, program, args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s %s: exit code %d\n%s", program, strings.Join(args, " "), code, out)
	}
	return out, err
}

// tryBinary runs an installed glmconv: version, exit codes, the demo, Ctrl-C.
func (b *build) tryBinary(glmconv, dir string) error {
	out, err := must(dir, glmconv, "version")
	if err != nil {
		return err
	}
	if !strings.Contains(out, "glmconv v"+b.version+"\n") {
		return fmt.Errorf("version is not %s: %s", b.version, out)
	}
	for want, args := range map[int][]string{2: {"frobnicate"}, 65: {"inspect", "no-such-folder"}} {
		if code, out, err := exitOf(dir, glmconv, args...); err != nil || code != want {
			return fmt.Errorf("glmconv %s: exit code %d, want %d: %s %w", strings.Join(args, " "), code, want, out, err)
		}
	}
	if _, err := must(dir, glmconv, "demo", "--report", "demo.html"); err != nil {
		return err
	}
	cmd := exec.Command(glmconv, "demo", "--report", "")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		return err
	}
	time.Sleep(150 * time.Millisecond)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
		return fmt.Errorf("after Ctrl-C the exit code is %d, not 130: %w", cmd.ProcessState.ExitCode(), err)
	}
	return nil
}

// checkImage validates the layout with go-containerregistry and runs the image's
// program as its user, with a root that cannot be written and no TMPDIR.
func (b *build) checkImage(out, scratch string) error {
	index, err := layout.ImageIndexFromPath(filepath.Join(out, fmt.Sprintf("glmconv-%s-oci", b.version)))
	if err != nil {
		return err
	}
	if err := validate.Index(index); err != nil {
		return err
	}
	fmt.Println("image: the layout is valid")
	if os.Getuid() != 0 || hostOS != "linux" || missing("unshare", "the image's program was not run in a root of its own") {
		return nil
	}
	packed, err := b.layer(out, target{"linux", hostArch})
	if err != nil {
		return err
	}
	root := filepath.Join(scratch, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("tar", "-x", "-C", root)
	cmd.Stdin = bytes.NewReader(packed)
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, msg)
	}
	script := fmt.Sprintf("mount --bind %[1]s %[1]s && mount -o remount,bind,ro %[1]s && mount -t tmpfs -o mode=0777 data %[1]s/data && "+
		"exec env -i PATH=/usr/bin:/usr/sbin:/bin:/sbin chroot --userspec=%[2]d:%[2]d %[1]s /usr/bin/glmconv demo --out /data/demo --report /data/demo.html", root, imageUser)
	if _, err := must(scratch, "unshare", "-m", "sh", "-c", script); err != nil {
		return err
	}
	fmt.Println("image: demo ran as its user, with a root that cannot be written")
	return nil
}

// checkWheel installs this platform's wheel into an empty environment.
func (b *build) checkWheel(out, scratch string) error {
	if missing("python3", "the wheel was not installed") {
		return nil
	}
	venv := filepath.Join(scratch, "venv")
	if _, err := must(scratch, "python3", "-m", "venv", venv); err != nil {
		return err
	}
	wheel := filepath.Join(out, b.wheelName(target{hostOS, hostArch}))
	if _, err := must(scratch, filepath.Join(venv, "bin", "pip"), "install", "--no-index", "--disable-pip-version-check", wheel); err != nil {
		return err
	}
	if err := b.tryBinary(filepath.Join(venv, "bin", "glmconv"), scratch); err != nil {
		return err
	}
	if _, err := must(scratch, filepath.Join(venv, "bin", "pip"), "uninstall", "-y", "glmconv"); err != nil {
		return err
	}
	fmt.Println("wheel: installed, ran the demo, removed")
	return nil
}

// maxSize bounds the stripped binary for linux/amd64, in bytes.
const maxSize = 30 << 20

// checkSize records size and start-up time.
func (b *build) checkSize(out, _ string) error {
	for _, t := range targets {
		st, err := os.Stat(b.binary(out, t))
		if err != nil {
			return err
		}
		fmt.Printf("size: %s/%s %.1f MB\n", t.os, t.arch, float64(st.Size())/1e6)
		if st.Size() > maxSize {
			return fmt.Errorf("%s/%s has %d bytes, at most %d are allowed", t.os, t.arch, st.Size(), maxSize)
		}
	}
	binary := b.binary(out, target{hostOS, hostArch})
	if _, err := os.Stat(binary); err != nil {
		return nil
	}
	var times []time.Duration
	for range 21 {
		start := time.Now()
		cmd := exec.Command(binary, "version")
		cmd.Stdout = io.Discard
		if err := cmd.Run(); err != nil {
			return err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	fmt.Printf("start-up: %.1f ms (median of %d runs of glmconv version, least %.1f ms)\n", float64(times[10].Microseconds())/1e3, len(times), float64(times[0].Microseconds())/1e3)
	return nil
}
