package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
)

func TestPartFromEnvironment(t *testing.T) {
	for _, test := range []struct {
		name, env    string
		count        int
		index, parts int
		says         string
	}{
		{"array from 1", "SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_COUNT=6", 0, 3, 6, ""},
		{"array from 0 by 2", "SLURM_ARRAY_TASK_ID=4 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_STEP=2 SLURM_ARRAY_TASK_COUNT=3", 3, 3, 3, ""},
		{"pod", "JOB_COMPLETION_INDEX=0", 4, 1, 4, ""},
		{"pod without count", "JOB_COMPLETION_INDEX=0", 0, 0, 0, "needs --count"},
		{"both alike", "JOB_COMPLETION_INDEX=2 SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_COUNT=6", 0, 3, 6, ""},
		{"both different", "JOB_COMPLETION_INDEX=0 SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_COUNT=6", 0, 0, 0, "different parts"},
		{"other count", "SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_COUNT=6", 5, 0, 0, "6 tasks"},
		{"no number", "SLURM_ARRAY_TASK_ID=x SLURM_ARRAY_TASK_COUNT=6", 0, 0, 0, "not a number"},
		{"none", "", 4, 0, 0, "neither"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := map[string]string{}
			for _, e := range strings.Fields(test.env) {
				k, v, _ := strings.Cut(e, "=")
				env[k] = v
			}
			i, n, err := partFromEnvironment(func(k string) (string, bool) { v, ok := env[k]; return v, ok }, test.count > 0, test.count)
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
				assert.Equal(t, exitUsage, codeOf(err))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []int{test.index, test.parts}, []int{i, n})
		})
	}
}

// TestSubmitSlurm runs the script with stand-ins of glmconv and scontrol: what the
// exit codes lead to.
func TestSubmitSlurm(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("SKIPPED: no bash")
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "it's here")
	require.NoError(t, demo.Extract(src))
	code, script, errs := glmconv(t, "submit", "slurm", "--parts", "6", "--array-limit", "2", "--partition", "cpu", "--", "quantize", "--scheme", "w8a8", src, filepath.Join(dir, "dst"))
	require.Zero(t, code, errs)
	assert.Contains(t, script, "--array=1-6%2")
	file, bin := filepath.Join(dir, "job.sh"), filepath.Join(dir, "bin")
	require.NoError(t, os.WriteFile(file, []byte(script), 0o755))
	require.NoError(t, os.MkdirAll(bin, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(bin, "glmconv"), []byte("#!/bin/sh\nfor a; do echo \"[$a]\"; done\nexit $WANT\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(bin, "scontrol"), []byte("#!/bin/sh\necho requeued $2\n"), 0o755))
	for _, test := range []struct {
		code, restarts string
		want           int
		requeued       bool
	}{{"0", "", 0, false}, {"65", "", 65, false}, {"75", "", 0, true}, {"74", "2", 0, true}, {"75", "3", 75, false}} {
		cmd := exec.Command(bash, file)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "WANT="+test.code, "SLURM_RESTART_COUNT="+test.restarts, "SLURM_ARRAY_JOB_ID=7", "SLURM_ARRAY_TASK_ID=2")
		out, _ := cmd.Output()
		assert.Equal(t, test.want, cmd.ProcessState.ExitCode(), test)
		assert.Equal(t, test.requeued, strings.Contains(string(out), "requeued 7_2"), test)
		assert.Contains(t, string(out), "["+src+"]")
		assert.Contains(t, string(out), "[--index]\n[auto]")
	}
}

func TestSubmitKubernetes(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	require.NoError(t, demo.Extract(src))
	const image = "registry.example/glmconv@sha256:0123"
	code, out, errs := glmconv(t, "submit", "k8s", "--parts", "4", "--image", image, "--pvc", "models:/models", "--secret", "hub", "--", "quantize", "--scheme", "w8a8", src, "/models/dst")
	require.Zero(t, code, errs)
	assert.Empty(t, errs)
	for _, want := range []string{"completions: 4", "backoffLimitPerIndex: 3", `- "auto"`, `claimName: "models"`, "restartPolicy: Never", "values: [2, 65]", `secretRef: {name: "hub"}`} {
		assert.Contains(t, out, want)
	}
	_, again, _ := glmconv(t, "submit", "k8s", "--parts", "4", "--image", image, "--pvc", "models:/models", "--secret", "hub", "--", "quantize", "--scheme", "w8a8", src, "/models/dst")
	assert.Equal(t, out, again)
	for args, says := range map[string]string{
		"k8s --parts 4 -- quantize --scheme w8a8 " + src + " dst":                 "--image",
		"slurm -- quantize --scheme w8a8 " + src + " dst":                         "--parts",
		"slurm --parts 4 -- check " + src:                                         "quantize command",
		"slurm --parts 4 -- quantize --index 1 --scheme w8a8 " + src + " dst":     "submit sets it",
		"slurm --parts 4 -- quantize --scheme w9a9 " + src + " dst":               "w9a9",
		"k8s --parts 4 --image x --pvc a -- quantize --scheme w8a8 " + src + " d": "CLAIM:/MOUNT",
	} {
		code, out, errs := glmconv(t, append([]string{"submit"}, strings.Fields(args)...)...)
		assert.Equal(t, exitUsage, code, args)
		assert.Contains(t, errs, says, args)
		assert.Empty(t, out, args)
	}
}

// TestSubmitStorage: what a pod may write is mounted and requested.
func TestSubmitStorage(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	require.NoError(t, demo.Extract(src))
	const job = "submit k8s --parts 2 --image registry.example/glmconv@sha256:0123 --pvc models:/models --cpu 4 --memory 3Gi"
	for _, test := range []struct {
		name, flags, quantize, dst string
		code                       int
		says                       []string // of the job, or of the error
		warned                     bool
	}{
		{"nothing more", "", "", "/models/dst", 0, []string{"cpu: 4", `memory: "3Gi"`, "ephemeral-storage: 1073741824}", "sizeLimit: 1073741824"}, false},
		{"a cache", "--scratch 20Gi", "--cache /cache", "/models/dst", 0,
			[]string{"ephemeral-storage: 22548578304}", `{name: scratch-0, mountPath: "/cache"}`, "{name: scratch-0, emptyDir: {sizeLimit: 21474836480}}"}, false},
		{"a cache among temporary files", "--scratch 20G", "--cache=/tmp/cache", "/models/dst", 0, []string{"{name: tmp, emptyDir: {sizeLimit: 21073741824}}"}, false},
		{"a cache on a claim", "", "--cache /models/cache", "/models/dst", 0, []string{"ephemeral-storage: 1073741824}"}, false},
		{"a cache of no size", "", "--cache /cache", "/models/dst", exitUsage, []string{"--scratch 200Gi"}, false},
		{"a relative cache", "--scratch 20Gi", "--cache cache", "/models/dst", exitUsage, []string{"read-only"}, false},
		{"memory of the conversion", "", "--max-memory 3GiB", "/models/dst", 0, []string{`memory: "3Gi"`}, false},
		{"less memory than the conversion's", "", "--max-memory=4GiB", "/models/dst", 0, []string{"warning: --mem 3Gi is less", "--max-memory 4GiB"}, false},
		{"a claim of one node", "--pvc one:/one:rwo", "", "/one/dst", exitUsage, []string{"pods of one node", "--parts 1"}, false},
		{"a claim of one node for one part", "--parts 1 --pvc one:/one:rwo", "", "/one/dst", 0, []string{`mountPath: "/one"}`}, false},
		{"a claim of many nodes", "--pvc many:/many:rwx", "", "/many/dst", 0, []string{`mountPath: "/many"}`}, false},
		{"a claim of no mode", "--pvc one:/one:ro", "", "/one/dst", exitUsage, []string{"CLAIM:/MOUNT"}, false},
		{"no size", "--scratch much", "", "/models/dst", exitUsage, []string{"20Gi"}, false},
		{"a result on no claim", "", "", "/modelsx/dst", 0, nil, true},
		{"two wishes", "--print --apply", "", "/models/dst", exitUsage, []string{"not both"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append(strings.Fields(job+" "+test.flags), append([]string{"--", "quantize", "--scheme", "w8a8"}, append(strings.Fields(test.quantize), src, test.dst)...)...)
			code, out, errs := glmconv(t, args...)
			require.Equal(t, test.code, code, errs)
			for _, want := range test.says {
				assert.Contains(t, out+errs, want)
			}
			assert.Equal(t, test.warned, strings.Contains(errs, "lies in no claim (--pvc"), errs)
		})
	}
}

// TestSubmitMemory: a part is given what its conversion may take.
func TestSubmitMemory(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	require.NoError(t, demo.Extract(src))
	for _, test := range []struct {
		args, quantize, want string
		warned               bool
	}{
		{"slurm --parts 2", "", "--mem=1536M ", false},
		{"slurm --parts 2", "--max-memory 4GiB", "--mem=4608M ", false},
		{"slurm --parts 2", "--max-memory 2GB", "--mem=2420M ", false},
		{"slurm --parts 2 --mem 1G", "", "--mem=1G ", false},
		{"slurm --parts 2 --mem 1000", "", "--mem=1000 ", true},
		{"slurm --parts 2 --mem 1024", "", "--mem=1024 ", false},
		{"slurm --parts 2 --mem 900M", "--max-memory 900MB", "--mem=900M ", false},
		{"k8s --image r/x@sha256:0123 --parts 2", "", `limits: {memory: "1536Mi"`, false},
		{"k8s --image r/x@sha256:0123 --parts 2", "--max-memory 4GiB", `limits: {memory: "4608Mi"`, false},
		{"k8s --image r/x@sha256:0123 --parts 2 --mem 1G", "", `limits: {memory: "1G"`, true},
	} {
		args := append(append([]string{"submit"}, strings.Fields(test.args)...), append([]string{"--", "quantize", "--scheme", "w8a8"}, append(strings.Fields(test.quantize), src, "/dst")...)...)
		code, out, errs := glmconv(t, args...)
		require.Zero(t, code, errs)
		assert.Contains(t, out, test.want, args)
		assert.Equal(t, test.warned, strings.Contains(errs, "less than the conversion may take"), "%v: %s", args, errs)
	}
}

// TestSubmitApplies runs stand-ins of the programs that take jobs.
func TestSubmitApplies(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	require.NoError(t, demo.Extract(src))
	line := []string{"submit", "slurm", "--apply", "--parts", "2", "--", "quantize", "--scheme", "w8a8", src, "/dst"}
	t.Setenv("PATH", dir)
	code, _, errs := glmconv(t, line...)
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errs, "not on PATH")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sbatch"), []byte("#!/bin/sh\nread first\necho \"$1 $first\"\nexit 0\n"), 0o755))
	code, out, errs := glmconv(t, line...)
	require.Zero(t, code, errs)
	assert.Equal(t, "--parsable #!/bin/bash\n", out)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sbatch"), []byte("#!/bin/sh\nexit 1\n"), 0o755))
	code, _, errs = glmconv(t, line...)
	assert.Equal(t, exitIO, code)
	assert.Contains(t, errs, "sbatch did not take the job")
}
