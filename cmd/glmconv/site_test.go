package main

import (
	"bytes"
	"image"
	"image/png"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/site"
	"github.com/glmconv/glmconv/internal/testkit"
)

// builtSite assembles the pages without the engine rows of published models, which
// take long.
func builtSite(t *testing.T) (dir string, app *cli.App) {
	t.Helper()
	app = newApp(io.Discard, io.Discard)
	var raw bytes.Buffer
	require.NoError(t, describe(&raw, app))
	out := filepath.Join(t.TempDir(), "site")
	require.NoError(t, site.Build(site.Options{Root: "../..", Out: out, Describe: raw.Bytes()}))
	return filepath.Join(out, "docs"), app
}

// TestSiteHasEveryCommandFlagAndCode: each has its place in the reference, and the
// reference has no other.
func TestSiteHasEveryCommandFlagAndCode(t *testing.T) {
	docs, app := builtSite(t)
	flagCell := regexp.MustCompile("`--([a-z0-9-]+)`")
	var pages []string
	for _, c := range app.Commands {
		page, err := os.ReadFile(filepath.Join(docs, "reference", "commands", c.Name+".md"))
		require.NoError(t, err)
		pages = append(pages, c.Name+".md")
		want, got := map[string]bool{}, map[string]bool{}
		for _, f := range c.Flags {
			for _, n := range f.Names() {
				want[n] = true
			}
		}
		for line := range strings.Lines(string(page)) {
			if first, ok := strings.CutPrefix(line, "| "); ok {
				first, _, _ = strings.Cut(first, " | ")
				for _, m := range flagCell.FindAllStringSubmatch(first, -1) {
					got[m[1]] = true
				}
			}
		}
		assert.Equal(t, want, got, c.Name)
	}
	var codes []string
	for _, e := range explanations() {
		codes = append(codes, e.Code+".md")
	}
	assert.ElementsMatch(t, pages, filesIn(t, filepath.Join(docs, "reference", "commands")))
	assert.ElementsMatch(t, codes, filesIn(t, filepath.Join(docs, "reference", "codes")))
}

func filesIn(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestNoDeadLinks: links between the pages lead to pages and headings, and the
// menu names pages that are there.
func TestNoDeadLinks(t *testing.T) {
	docs, _ := builtSite(t)
	dead, err := site.Links(docs)
	require.NoError(t, err)
	assert.Empty(t, dead)
	menu, err := os.ReadFile("../../mkdocs.yml")
	require.NoError(t, err)
	named := regexp.MustCompile(`: ([\w/.-]+\.md)`).FindAllSubmatch(menu, -1)
	require.Greater(t, len(named), 15)
	for _, m := range named {
		assert.FileExists(t, filepath.Join(docs, string(m[1])))
	}
	require.NoError(t, os.WriteFile(filepath.Join(docs, "x.md"), []byte("# X\n\n[a](cli.md#json) [b](cli.md#nothing) [c](nowhere.md) `[d](code.md)`\n"), 0o644))
	dead, err = site.Links(docs)
	require.NoError(t, err)
	assert.Equal(t, []string{"x.md: cli.md#nothing", "x.md: nowhere.md"}, dead)
}

// commandLine is a call of glmconv in a block or a span of a page.
var commandLine = regexp.MustCompile("(?m)(?:^|[`$ (])glmconv ([a-z-]+)([^`\n]*)")

// TestPagesNameWhatExists: every command and flag that a page writes in a call of
// glmconv exists.
func TestPagesNameWhatExists(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	flag := regexp.MustCompile(`(?:^|\s)--([a-z][a-z0-9-]*)`)
	calls := 0
	check := func(name string) {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		inBlock := false
		for line := range strings.Lines(string(raw)) {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				inBlock = !inBlock
				continue
			}
			if !inBlock && !strings.Contains(line, "`glmconv ") {
				continue
			}
			for _, m := range commandLine.FindAllStringSubmatch(strings.ReplaceAll(line, " && ", "\n"), -1) {
				cmd := app.Command(m[1])
				if cmd == nil {
					continue // a word of prose
				}
				calls++
				rest, _, _ := strings.Cut(m[2], "#")
				if m[1] == "submit" {
					rest, _, _ = strings.Cut(rest, " -- ")
				}
				for _, f := range flag.FindAllStringSubmatch(rest, -1) {
					assert.True(t, f[1] == "help" || findFlag(cmd, f[1]) != nil, "%s: glmconv %s has no --%s", name, m[1], f[1])
				}
			}
		}
	}
	check("../../README.md")
	require.NoError(t, filepath.WalkDir("../../docs", func(name string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".md") && !strings.Contains(name, "roadmap") {
			check(name)
		}
		return err
	}))
	require.Greater(t, calls, 100)
}

var (
	shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")
	given      = regexp.MustCompile(`<!-- (models|files): (.*) -->`)
)

// TestTutorials runs the shell blocks of every tutorial, in order and word for word,
// on small models of the same families; those that begin with "# needs:" say what
// is not here.
func TestTutorials(t *testing.T) {
	bin := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(bin, "glmconv")))
	pages, err := filepath.Glob("../../docs/tutorials/*.md")
	require.NoError(t, err)
	require.Greater(t, len(pages), 5)
	for _, page := range pages { // the start page has the demo alone, which demo.txtar runs
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(page)
			require.NoError(t, err)
			dir := t.TempDir()
			for _, m := range given.FindAllStringSubmatch(string(raw), -1) {
				for _, pair := range strings.Split(m[2], ", ") {
					name, from, _ := strings.Cut(pair, " = ")
					provide(t, filepath.Join(dir, name), from)
				}
			}
			script := []string{"set -eu"}
			for _, m := range shellBlock.FindAllStringSubmatch(string(raw), -1) {
				if !strings.HasPrefix(m[1], "# needs: ") {
					script = append(script, "set -x", m[1], "{ set +x; } 2>/dev/null")
				}
			}
			require.Greater(t, len(script), 3)
			cmd := exec.Command("bash", "-c", strings.Join(script, "\n"))
			cmd.Dir = dir
			cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATH=") || strings.HasPrefix(v, "HOME=") })
			cmd.Env = append(cmd.Env, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+dir)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}

// provide puts what a tutorial begins with in place.
func provide(t *testing.T, to, from string) {
	switch from {
	case "demo":
		require.NoError(t, demo.Extract(to))
	case "picture":
		f, err := os.Create(to)
		require.NoError(t, err)
		require.NoError(t, png.Encode(f, image.NewGray(image.Rect(0, 0, 56, 56))))
		require.NoError(t, f.Close())
	default:
		copyWritable(t, testkit.Shared(t, filepath.Join("reference", from)), to)
	}
}

// copyWritable copies a folder of files, which may be read-only.
func copyWritable(t *testing.T, from, to string) {
	require.NoError(t, os.MkdirAll(to, 0o755))
	for _, name := range filesIn(t, from) {
		raw, err := os.ReadFile(filepath.Join(from, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, name), raw, 0o644))
	}
}
