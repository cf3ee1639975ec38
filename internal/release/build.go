package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// build is one release: what is built from where, and when the commit was made.
type build struct {
	root    string
	version string // 1.2.3, or 1.2.3-dev.45 between releases
	commit  string // 40 hex digits, with "-dirty" if files differ from it
	time    time.Time
	cache   string // GOCACHE; "": the user's
}

// target is a platform that binaries are built for.
type target struct{ os, arch string }

var targets = []target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}}

const (
	summary  = "Quantise GLM checkpoints for vLLM, SGLang and vllm-ascend, and prove the result"
	homepage = "https://github.com/glmconv/glmconv"
	licence  = "Apache-2.0"
	about    = "Converts GLM checkpoints to FP8, W8A8, W4A8 or W4A16 in the layouts that inference\n" +
		"engines load, with a working MTP head, and judges any checkpoint: what would each\nengine load, refuse, or swallow in silence."
)

var released = regexp.MustCompile(`(?m)^## \[?(\d+\.\d+\.\d+)`)

// newBuild reads version, commit and time from the repository.
func newBuild(root, version string) (*build, error) {
	b := &build{root: root, version: version}
	var err error
	if b.commit, err = b.git("rev-parse", "HEAD"); err != nil {
		return nil, err
	}
	seconds, err := b.git("log", "-1", "--format=%ct")
	if err != nil {
		return nil, err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return nil, err
	}
	b.time = time.Unix(unix, 0).UTC()
	if dirty, err := b.git("status", "--porcelain", "--untracked-files=no"); err != nil {
		return nil, err
	} else if dirty != "" {
		b.commit += "-dirty"
	}
	if b.version != "" {
		return b, nil
	}
	if tag, err := b.git("describe", "--tags", "--exact-match", "--match", "v*"); err == nil {
		b.version = strings.TrimPrefix(tag, "v")
		return b, nil
	}
	changes, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		return nil, err
	}
	m := released.FindSubmatch(changes)
	if m == nil {
		return nil, errors.New("CHANGELOG.md names no version")
	}
	n, err := b.git("rev-list", "--count", "HEAD")
	b.version = string(m[1]) + "-dev." + n
	return b, err
}

func (b *build) git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = b.root
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// all builds every artefact into a folder.
func (b *build) all(out string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(out, "bin"), 0o755); err != nil {
		return err
	}
	for _, t := range targets {
		if err := b.compile(t, b.binary(out, t)); err != nil {
			return err
		}
	}
	texts, err := b.texts(out)
	if err != nil {
		return err
	}
	for _, t := range targets {
		binary, err := os.ReadFile(b.binary(out, t))
		if err != nil {
			return err
		}
		if err := b.archive(out, t, binary, texts); err != nil {
			return err
		}
		if err := b.wheel(out, t, binary); err != nil {
			return err
		}
		if t.os == "linux" {
			for _, kind := range []string{"deb", "rpm"} {
				if err := b.packages(out, kind, t, binary, texts); err != nil {
					return fmt.Errorf("%s for %s: %w", kind, t.arch, err)
				}
			}
		}
	}
	for _, step := range []func(string) error{b.sbom, b.image, b.formula, b.checksums} {
		if err := step(out); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) binary(out string, t target) string {
	return filepath.Join(out, "bin", "glmconv-"+t.os+"-"+t.arch)
}

// compile builds the command for a platform. Nothing of this machine is in the
// result: no paths, no time, no cgo.
func (b *build) compile(t target, to string) error {
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	flags := fmt.Sprintf("-s -w -buildid= -X main.version=v%s -X main.commit=%s -X main.date=%s", b.version, b.commit, b.time.Format(time.RFC3339))
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "urfave_cli_no_docs", "-ldflags", flags, "-o", to, "./cmd/glmconv")
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch, "GOAMD64=v1", "GOWORK=off")
	if b.cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+b.cache)
	}
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build for %s/%s: %w\n%s", t.os, t.arch, err, msg)
	}
	return nil
}

// text is a file beside the binary, by its place in a package.
type text struct {
	name  string // in archives: "man/glmconv.1"
	place string // in deb and rpm: "/usr/share/man/man1/glmconv.1.gz"
	body  []byte
}

// texts are manual pages, completions, licence and the like. What the binary says
// of itself is asked of one that this machine runs.
func (b *build) texts(out string) ([]text, error) {
	host := filepath.Join(out, "host")
	if err := b.compile(target{hostOS, hostArch}, host); err != nil {
		return nil, err
	}
	defer os.Remove(host)
	say := func(args ...string) ([]byte, error) {
		raw, err := exec.Command(host, args...).Output()
		if err != nil {
			return nil, fmt.Errorf("glmconv %s: %w", strings.Join(args, " "), err)
		}
		return raw, nil
	}
	raw, err := say("__describe")
	if err != nil {
		return nil, err
	}
	var d description
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	all := manuals(&d, b.version, b.time)
	for _, shell := range []struct{ name, file, place string }{
		{"bash", "glmconv.bash", "/usr/share/bash-completion/completions/glmconv"},
		{"zsh", "_glmconv", "/usr/share/zsh/vendor-completions/_glmconv"},
		{"fish", "glmconv.fish", "/usr/share/fish/vendor_completions.d/glmconv.fish"},
		{"powershell", "glmconv.ps1", ""},
	} {
		script, err := say("completion", shell.name)
		if err != nil {
			return nil, err
		}
		all = append(all, text{"completions/" + shell.file, shell.place, script})
	}
	for _, name := range []string{"LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "SECURITY.md"} {
		body, err := os.ReadFile(filepath.Join(b.root, name))
		if err != nil {
			return nil, err
		}
		place := ""
		if name == "NOTICE" {
			place = "/usr/share/doc/glmconv/NOTICE"
		}
		all = append(all, text{name, place, bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))})
	}
	return all, nil
}
