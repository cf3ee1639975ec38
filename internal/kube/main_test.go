package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// manifests are written by the glmconv of this tree. Jobs are held against the level
// restricted as well: the pods of a conversion need nothing of the node.
var manifests = map[string]struct {
	args       []string
	restricted bool
}{
	"job on a claim": {[]string{"submit", "k8s", "--parts", "2", "--image", image, "--pvc", "models:/models", "--secret", "hub", "--", "quantize", "--scheme", "w8a8", "SRC", "/models/dst"}, true},
	"job on a bucket": {[]string{"submit", "k8s", "--parts", "2", "--image", image, "--namespace", "team", "--queue", "batch", "--service-account", "convert", "--cpus", "8",
		"--mem", "4Gi", "--secret", "hub", "--", "quantize", "--scheme", "fp8", "SRC", "s3://bucket/dst"}, true},
	"server":         {[]string{"recipe", "--model", "glm-4.5-air", "--engine", "vllm", "--hardware", "h200:8", "--out", "k8s"}, false},
	"server, SGLang": {[]string{"recipe", "--model", "glm-4.5-air", "--engine", "sglang", "--hardware", "h200:4", "--out", "k8s"}, false},
	"two nodes":      {[]string{"recipe", "--model", "glm-5", "--engine", "sglang", "--hardware", "h200:8x2", "--out", "lws"}, false},
}

const image = "registry.example/glmconv@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func write(t *testing.T) func(args []string) string {
	t.Helper()
	dir := t.TempDir()
	bin, src := filepath.Join(dir, "glmconv"), filepath.Join(dir, "src")
	for _, cmd := range []*exec.Cmd{exec.Command("go", "build", "-o", bin, "./cmd/glmconv"), exec.Command("go", "run", "./internal/synth/glmsynth", "-preset", "glm-4.5-air", "-sparse", src)} {
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return func(args []string) string {
		args = append([]string(nil), args...)
		for i := range args {
			if args[i] == "SRC" {
				args[i] = src
			}
		}
		cmd := exec.Command(bin, args...)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, errs.String())
		}
		return string(out)
	}
}

// TestManifests: what glmconv writes goes through the server's code, and what is
// wrong in a way that no schema can see does not.
func TestManifests(t *testing.T) {
	if _, err := os.Stat("../../go.mod"); err != nil {
		t.Fatal(err)
	}
	render := write(t)
	for name, m := range manifests {
		t.Run(name, func(t *testing.T) {
			if err := Validate([]byte(render(m.args)), m.restricted); err != nil {
				t.Error(err)
			}
		})
	}
	job := render(manifests["job on a claim"].args)
	for _, bad := range []struct{ from, to, says string }{
		{"backoffLimitPerIndex: 3", "backOffLimitPerIndex: 3", "backOffLimitPerIndex"},
		{"backoffLimitPerIndex: 3", "backoffLimitPerIndex: 3\n  backoffLimitPerIndex: 4", "already set"},
		{"  backoffLimitPerIndex: 3\n", "", "maxFailedIndexes"},
		{"restartPolicy: Never", "restartPolicy: OnFailure", "restartPolicy"},
		{"allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "restricted"},
	} {
		t.Run(bad.to, func(t *testing.T) {
			text := strings.Replace(job, bad.from, bad.to, 1)
			if text == job {
				t.Fatalf("no %q in\n%s", bad.from, job)
			}
			if err := Validate([]byte(text), true); err == nil || !strings.Contains(err.Error(), bad.says) {
				t.Errorf("%v does not name %s", err, bad.says)
			}
		})
	}
}
