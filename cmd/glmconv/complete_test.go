package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"
)

func TestComplete(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"models/GLM-5/config.json", "models/more/x.txt", "mine.json"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	t.Chdir(dir)
	for _, test := range []struct {
		name  string
		words []string
		want  []string // "…" at the end: and more
	}{
		{"a command", []string{"qu"}, []string{"quantize"}},
		{"all commands", []string{""}, []string{"inspect", "plan", "…"}},
		{"no such command", []string{"frob", ""}, nil},
		{"a flag", []string{"quantize", "--sch"}, []string{"--scheme"}},
		{"a flag that was given", []string{"quantize", "--scheme", "w8a8", "--sch"}, nil},
		{"a repeatable flag", []string{"check", "--engine", "vllm", "--eng"}, []string{"--engine"}},
		{"values", []string{"quantize", "--scheme", "w4a1"}, []string{"w4a16"}},
		{"values after =", []string{"plan", "--format=as"}, []string{"--format=ascend"}},
		{"a command's own values", []string{"recipe", "--hardware", "h20"}, []string{"h200:", "h20-96g:", "h20-141g:"}},
		{"the same flag elsewhere", []string{"check", "--hardware", "a100-8"}, []string{"a100-80g"}},
		{"releases", []string{"check", "--engine", "vllm@"}, []string{"…"}},
		{"a free value", []string{"quantize", "--workers", ""}, nil},
		{"a checkpoint", []string{"inspect", "models/"}, []string{"models/GLM-5", "models/more/"}},
		{"folders only", []string{"inspect", "m"}, []string{"models/"}},
		{"a file of a flag", []string{"logits", "--token-ids", "mi"}, []string{"mine.json"}},
		{"a folder of a flag", []string{"quantize", "--calib", "m"}, []string{"models/"}},
		{"after a flag with =", []string{"quantize", "--scheme=w8a8", "mod"}, []string{"models/"}},
		{"codes", []string{"explain", "hash"}, []string{"hash-mismatch"}},
		{"exit codes", []string{"explain", "13"}, []string{"130"}},
		{"shells", []string{"completion", "p"}, []string{"powershell"}},
		{"a job's command", []string{"submit", "slurm", "--parts", "4", "--", "quantize", "--scheme", "fp8-"}, []string{"fp8-block"}},
		{"the job's kind", []string{"submit", "k"}, []string{"k8s"}},
		{"parts of a verdict", []string{"verify", "--merge", "mi"}, []string{"mine.json"}},
		{"an empty word in disguise", []string{"completion", emptyWord}, shells},
		{"nothing", nil, []string{"inspect", "…"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			require.NoError(t, printCandidates(&out, newApp(io.Discard, io.Discard), slices.Clone(test.words)))
			var got []string
			for line := range strings.Lines(out.String()) {
				value, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
				got = append(got, value)
			}
			want := test.want
			if n := len(want); n > 0 && want[n-1] == "…" {
				want = want[:n-1]
				require.Greater(t, len(got), len(want))
				got = got[:len(want)]
			}
			assert.ElementsMatch(t, want, got)
		})
	}
}

// TestEveryValueCompletes: each flag that takes a value has a list of them, is a
// path, or is known to be free; no table names a flag that does not exist; and
// values that a usage text lists are those that complete.
func TestEveryValueCompletes(t *testing.T) {
	used := map[string]bool{}
	for _, c := range newApp(io.Discard, io.Discard).Commands {
		for _, f := range c.Flags {
			if !takesValue(f) {
				continue
			}
			name := f.Names()[0]
			free := false
			for _, key := range []string{c.Name + "/" + name, name} {
				_, listed := flagValues[key]
				_, path := pathFlags[key]
				inFree := slices.Contains(freeFlags, key)
				if listed || path || inFree {
					used[key] = true
				}
				free = free || inFree || listed && flagValues[key] == nil
			}
			kind, list := valuesOf(c.Name, f)
			assert.True(t, kind != freeValue || free, "%s --%s: what can its value be?", c.Name, name)
			usage := f.(cli.DocGenerationFlag).GetUsage()
			if kind == listValue && len(list) < 5 && name != "index" {
				for _, v := range list {
					assert.Contains(t, usage, v, "%s --%s", c.Name, name)
				}
			}
		}
	}
	for key := range flagValues {
		assert.True(t, used[key], "no flag %s", key)
	}
	for key := range pathFlags {
		assert.True(t, used[key], "no flag %s", key)
	}
	for _, key := range freeFlags {
		assert.True(t, used[key], "no flag %s", key)
	}
}

// TestShellsComplete: the scripts are run by the shells that are here; bash is
// wherever continuous integration runs, zsh and fish need not be.
func TestShellsComplete(t *testing.T) {
	bin := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(bin, "glmconv")))
	path := bin + string(os.PathListSeparator) + os.Getenv("PATH")
	work := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(work, "GLM 5"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(work, "GLM 5", "config.json"), nil, 0o644))
	for _, test := range []struct{ shell, script string }{
		{"bash", `source <(glmconv completion bash); COMP_LINE="glmconv %s"; COMP_POINT=${#COMP_LINE}
compopt() { :; }; _glmconv; printf '%%s\n' "${COMPREPLY[@]}"`},
		{"fish", `glmconv completion fish | source; complete -C "glmconv %s"`},
		{"zsh", `words=(${(z):-"glmconv %s"}); [[ "%[1]s" == *" " ]] && words+=(""); CURRENT=$#words
compdef() { :; }; compadd() { print -l -- ${(P)@[-1]}; }; eval "$(glmconv completion zsh)"; _glmconv`},
	} {
		t.Run(test.shell, func(t *testing.T) {
			testkit.Tool(t, test.shell, "its completion is not tried")
			for line, want := range map[string]string{
				"qu":                          "quantize",
				"quantize --scheme w4a1":      "w4a16",
				"explain hash":                "hash-mismatch",
				"quantize --scheme w8a8 GLM":  "GLM 5",
				"plan --format=as":            "ascend",
				"check --hardware ascend-950": "ascend-950pr",
			} {
				cmd := exec.Command(test.shell, "-c", strings.NewReplacer("%s", line, "%[1]s", line, "%%", "%").Replace(test.script))
				cmd.Env, cmd.Dir = append(os.Environ(), "PATH="+path, "HOME="+work), work
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", out)
				assert.Contains(t, string(out), want, "%s", line)
			}
		})
	}
}
