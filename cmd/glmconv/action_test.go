package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/glmconv/glmconv/internal/demo"
)

// TestAction runs the steps of the GitHub Action on the built-in model: what it was
// asked for comes in the environment, results go to the files that runners name.
func TestAction(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(bin, "glmconv")))
	script, err := filepath.Abs("../../action/run.sh")
	require.NoError(t, err)
	model := filepath.Join(dir, "a model")
	require.NoError(t, demo.Extract(model))
	dst := filepath.Join(dir, "dst")
	for _, test := range []struct {
		name    string
		env     []string
		code    int
		outputs []string
		says    []string
	}{
		{"quantize", []string{"COMMAND=quantize", "SCHEME=w8a8", "DESTINATION=" + dst}, 0, []string{"verdict=pass", "manifest-sha256="}, nil},
		{"check", []string{"COMMAND=check", "ARGS=--engine vllm-ascend"}, 0, []string{"verdict=pass"}, nil},
		{"pass", []string{"COMMAND=verify", "DESTINATION=" + dst, "ARGS=--tokens 512"}, 0, []string{"verdict=pass", "kl=0.0", "report=", "junit="}, nil},
		{"fail", []string{"COMMAND=verify", "DESTINATION=" + dst, "TOL=1e-9", "ARGS=--tokens 512"}, 1, []string{"verdict=fail"}, []string{"::error title=glmconv KL::"}},
		{"undecided", []string{"COMMAND=verify", "DESTINATION=" + dst, "ARGS=--tokens 8"}, 3, []string{"verdict=undecided"}, nil},
		{"undecided is a warning", []string{"COMMAND=verify", "DESTINATION=" + dst, "ARGS=--tokens 8", "UNDECIDED=warn"}, 0, []string{"verdict=undecided"}, []string{"::warning "}},
		{"bad input", []string{"COMMAND=check", "SOURCE=" + filepath.Join(dir, "$(touch x)")}, 65, []string{"verdict=error"}, []string{"::error title=glmconv::"}},
		{"no destination", []string{"COMMAND=verify"}, 2, nil, []string{"::error::verify needs the input destination"}},
		{"another command", []string{"COMMAND=rm -rf"}, 2, nil, []string{"::error::the input command is"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			here := t.TempDir()
			cmd := exec.Command("bash", script)
			cmd.Dir = here
			cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "RUNNER_TEMP="+here, "HOME="+here,
				"GITHUB_OUTPUT="+filepath.Join(here, "outputs"), "GITHUB_STEP_SUMMARY="+filepath.Join(here, "summary"), "GLMCONV_SOURCE="+model)
			for _, v := range test.env {
				cmd.Env = append(cmd.Env, "GLMCONV_"+v)
			}
			said, err := cmd.CombinedOutput()
			require.NotNil(t, cmd.ProcessState, err)
			require.Equal(t, test.code, cmd.ProcessState.ExitCode(), "%s", said)
			for _, s := range test.says {
				assert.Contains(t, string(said), s)
			}
			if test.outputs == nil {
				return
			}
			outputs, err := os.ReadFile(filepath.Join(here, "outputs"))
			require.NoError(t, err)
			for _, o := range test.outputs {
				assert.Contains(t, string(outputs), o)
			}
			summary, err := os.ReadFile(filepath.Join(here, "summary"))
			require.NoError(t, err)
			assert.Contains(t, string(summary), "### glmconv ")
			assert.NoFileExists(t, filepath.Join(here, "x"))
		})
	}
}

// TestActionTakesNoTextIntoScripts: no expression stands in a step's script, every
// input reaches it by the environment, and the scripts read no other.
func TestActionTakesNoTextIntoScripts(t *testing.T) {
	raw, err := os.ReadFile("../../action.yml")
	require.NoError(t, err)
	var action struct {
		Inputs map[string]any
		Runs   struct {
			Steps []struct {
				Run string
				Env map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(raw, &action))
	require.Len(t, action.Runs.Steps, 2)
	passed := map[string]bool{}
	for _, s := range action.Runs.Steps {
		assert.NotContains(t, s.Run, "${{")
		for _, v := range s.Env {
			if name, ok := strings.CutPrefix(v, "${{ inputs."); ok {
				passed[strings.TrimSuffix(name, " }}")] = true
			}
		}
	}
	for name := range action.Inputs {
		assert.True(t, passed[name], "input %s reaches no step", name)
	}
}
