package main

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// evil are folders that YAML or compose could take for something else.
var evil = []string{"it's", `a "b" $(touch x) ; rm -rf`, "$HOME ${HOME} $$", "a: b #c", "{a: [b", "日本", " \\ ", "a:b:ro", "~"}

// decided is what is read of a recipe.
type decided struct {
	Nodes []struct {
		Argv []string
		Env  []struct{ Name, Value string }
	}
	Images []string
	Port   uint32
	from   string // where glmconv was started
}

// recipes runs the glmconv of this tree: the decision and its compose file; false
// where the recipe is refused.
func recipes(t *testing.T) func(args ...string) (d decided, text []byte, fits bool) {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "glmconv")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/glmconv")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return func(args ...string) (d decided, text []byte, fits bool) {
		t.Helper()
		out := t.TempDir()
		d.from = dir
		cmd := exec.Command(bin, append([]string{"recipe", "--out", "json", "--out", "compose", "--out-dir", out}, args...)...)
		cmd.Dir = dir
		said, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit) && exit.ExitCode() == 1:
			return d, nil, false
		case errors.As(err, &exit) && exit.ExitCode() == 3: // tight
		case err != nil:
			t.Fatalf("%q: %v: %s", args, err, said)
		}
		raw, err := os.ReadFile(filepath.Join(out, "recipe.json"))
		if err == nil {
			err = json.Unmarshal(raw, &d)
		}
		if err == nil {
			text, err = os.ReadFile(filepath.Join(out, "compose.yaml"))
		}
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return d, text, true
	}
}

// judge holds a file against the decision: compose starts the words that were
// decided, in their environment, with the checkpoint's folder where they name it.
func judge(t *testing.T, d *decided, text []byte) {
	t.Helper()
	set := map[string]string{}
	for _, name := range []string{"HOME", "PATH", "a", "b", "touch"} {
		set[name] = "filled in"
	}
	p, err := Load(text, set)
	if err != nil {
		t.Errorf("%v\n%s", err, text)
		return
	}
	s, n := p.Services["server"], d.Nodes[0]
	want := slices.Clone(n.Argv)
	folder := 2 // vllm serve FOLDER
	if at := slices.Index(want, "--model-path"); at >= 0 {
		folder = at + 1
	}
	if !filepath.IsAbs(want[folder]) {
		want[folder] = filepath.Join(d.from, want[folder])
	}
	got := slices.Concat(s.Entrypoint, s.Command)
	if !slices.Equal(got, want) {
		t.Errorf("compose starts\n%q, decided is\n%q", got, want)
	}
	env := map[string]string{"HF_HUB_OFFLINE": "1"}
	for _, e := range n.Env {
		env[e.Name] = e.Value
	}
	read := map[string]string{}
	for k, v := range s.Environment {
		read[k] = *v
	}
	if !maps.Equal(read, env) {
		t.Errorf("environment %q, decided is %q", read, env)
	}
	mounted := slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Type == "bind" && v.Source == want[folder] && v.Target == want[folder] && v.ReadOnly
	})
	if !mounted || s.Image != d.Images[0] || s.HealthCheck == nil || !strings.Contains(strings.Join(s.HealthCheck.Test, " "), ":"+strconv.Itoa(int(d.Port))+"/health") {
		t.Errorf("volumes %v, image %s, health %v", s.Volumes, s.Image, s.HealthCheck)
	}
	if s.NetworkMode != "host" && (len(s.Ports) != 1 || s.Ports[0].Target != d.Port || s.Ports[0].Published != strconv.Itoa(int(d.Port))) {
		t.Errorf("ports %v", s.Ports)
	}
}

// devices are the accelerators that recipe knows, and how many a server has.
func devices(t *testing.T) map[string]struct{ Node int } {
	t.Helper()
	raw, err := os.ReadFile("../../recipe/data/hardware.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Devices map[string]struct{ Node int } }
	if err := yaml.Unmarshal(raw, &list); err != nil || len(list.Devices) < 20 {
		t.Fatalf("%d devices: %v", len(list.Devices), err)
	}
	return list.Devices
}

// TestEveryDevice: a family each, on a whole server of every kind, by every engine.
func TestEveryDevice(t *testing.T) {
	recipe := recipes(t)
	fit := map[string]int{}
	for device, d := range devices(t) {
		if device == "xeon" {
			continue // no accelerator: recipe refuses the word
		}
		for _, engine := range []string{"vllm", "sglang", "vllm-ascend"} {
			for _, model := range [][]string{{"--model", "glm-4.5-air"}, {"--model", "glm-4.5v", "--scheme", "w8a8"}, {"--model", "glm-4.7-flash"}, {"--model", "glm-5", "--scheme", "w4a8"}} {
				args := append([]string{"--engine", engine, "--hardware", device + ":" + strconv.Itoa(d.Node)}, model...)
				if got, text, fits := recipe(args...); fits {
					fit[engine]++
					judge(t, &got, text)
				}
			}
		}
	}
	t.Logf("files by engine: %v", fit)
	for engine, least := range map[string]int{"vllm": 20, "sglang": 20, "vllm-ascend": 3} {
		if fit[engine] < least {
			t.Errorf("%s: %d files", engine, fit[engine])
		}
	}
}

// TestNames: folders and names from outside stand as they are, no variable is filled in.
func TestNames(t *testing.T) {
	recipe := recipes(t)
	src := filepath.Join(t.TempDir(), "src")
	cmd := exec.Command("go", "run", "./internal/synth/glmsynth", "-preset", "glm-4.5-air", "-sparse", src)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range evil {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Symlink(src, dir); err != nil {
			t.Fatal(err)
		}
		for _, engine := range []string{"vllm", "sglang"} {
			d, text, fits := recipe(dir, "--engine", engine, "--hardware", "h200:8", "--served-model-name", name, "--image", name)
			if !fits {
				t.Fatalf("%q: refused", name)
			}
			judge(t, &d, text)
		}
	}
}

// TestDamaged: what is wrong is told from what is right.
func TestDamaged(t *testing.T) {
	_, text, _ := recipes(t)("--model", "glm-4.5-air", "--engine", "vllm", "--hardware", "h200:8")
	for _, bad := range []struct{ from, to, says string }{
		{"read_only: true", "readonly: true", "readonly"},
		{"count: 8", "count: eight", "count"},
		{"type: bind", "type: bound", "type"},
		{"start_period: ", "start_period: soon # ", "start_period"},
		{"restart: unless-stopped", "restart: unless-stopped\n    restart: always", "restart"},
		{"  server:", "  server:\n    depends_on: [other]", "other"},
		{"- 0.0.0.0", "- $VARIABLE", ""},
	} {
		damaged := strings.Replace(string(text), bad.from, bad.to, 1)
		if damaged == string(text) {
			t.Fatalf("no %q in\n%s", bad.from, text)
		}
		p, err := Load([]byte(damaged), map[string]string{"VARIABLE": "filled in"})
		if bad.says == "" { // the text is right, the words are not: judge compares them
			if err != nil || !slices.Contains(p.Services["server"].Command, "filled in") {
				t.Errorf("%v: no variable is filled in", err)
			}
		} else if err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s: %v", bad.to, err)
		}
	}
}
