//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

// evil moves the cursor, changes a title, turns the direction, rings the bell,
// uses the one-byte form of an escape, and forges a line.
const evil = "e\x1b[2J\x1b]0;t\x07\u202egnp\u2066\u009b31m\r\nOK  forged"

// evilModel is the small model with strangers' names in all places.
func evilModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "m\x1b[31m\u202e")
	require.NoError(t, demo.Extract(dir))
	plan, err := safetensors.PlanFile("extra.safetensors", []safetensors.Spec{{Name: "model.layers.0." + evil + ".weight", DType: safetensors.U8, Shape: []int64{8}}}, nil)
	require.NoError(t, err)
	w, err := safetensors.Create(fsx.OS, dir, plan)
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 8))
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
	edit := func(name string, change func(map[string]any)) {
		path := filepath.Join(dir, name)
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		var doc map[string]any
		require.NoError(t, json.Unmarshal(raw, &doc))
		change(doc)
		raw, err = json.Marshal(doc)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, raw, 0o644))
	}
	edit("model.safetensors.index.json", func(doc map[string]any) {
		doc["weight_map"].(map[string]any)["model.layers.0."+evil+".weight"] = "extra.safetensors"
	})
	edit("config.json", func(doc map[string]any) { doc[evil] = evil })
	require.NoError(t, os.WriteFile(filepath.Join(dir, evil+".txt"), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(`{{ raise_exception("`+evil+`") }}`), 0o644))
	return dir
}

// assertPlain fails for anything that a terminal would take for more than text.
func assertPlain(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && (unicode.IsControl(r) && r != '\t' || unicode.Is(unicode.Cf, r)) || r == unicode.ReplacementChar {
			t.Errorf("%s prints %U: %q", what, r, text[max(0, i-60):min(len(text), i+30)])
			return
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "OK  forged") {
			t.Errorf("%s prints a forged line: %q", what, text)
			return
		}
	}
}

// TestNothingReachesTheTerminalRaw: names and values that strangers chose are
// shown as text by every command, in results, errors, hints and progress.
func TestNothingReachesTheTerminalRaw(t *testing.T) {
	dir := evilModel(t)
	tmp := t.TempDir()
	broken := evilModel(t)
	require.NoError(t, os.WriteFile(filepath.Join(broken, "config.json"), fmt.Appendf(nil, `{"model_type": %q, "architectures": [%q]}`, "x\u202e", "y\u202e"), 0o644))
	other := filepath.Join(tmp, "other")
	require.NoError(t, demo.Extract(other))
	require.NoError(t, os.WriteFile(filepath.Join(tmp, "ids.json"), []byte("[[1,2,3]]"), 0o644))
	shown := 0
	for _, d := range []string{dir, broken} {
		lines := readers(d, tmp)
		lines["tensors"], lines["inspect json"], lines["check json"] = []string{"inspect", "--tensors", d}, []string{"inspect", "--json", d}, []string{"check", "--json", d}
		lines["plan json"], lines["diff other"], lines["diff json"] = []string{"plan", "--json", "--scheme", "w8a8", d}, []string{"diff", d, other}, []string{"diff", "--json", other, d}
		lines["verify other"], lines["progress"] = []string{"verify", "--skip-forward", "--state", "none", d, other}, []string{"check", "--progress", "json", d}
		lines["usage"], lines["flag"], lines["ignore"] = []string{evil, evil}, []string{"check", "--engine", evil, d}, []string{"plan", "--scheme", "w8a8", "--ignore", evil, d}
		lines["text"] = []string{"verify", "--text", filepath.Join(tmp, evil), d, other}
		for name, line := range lines {
			got := say(t, line...)
			assertPlain(t, name, got.stdout)
			assertPlain(t, name, got.stderr)
			if strings.Contains(got.stdout+got.stderr, `\u202e`) {
				shown++
			}
			if strings.HasSuffix(name, "json") && got.code != exitBadInput {
				assert.True(t, json.Valid([]byte(got.stdout)), name)
			}
		}
		_ = os.RemoveAll(filepath.Join(tmp, "dst"))
	}
	assert.Greater(t, shown, 10, "the names have to appear, or nothing was tried")
	var in struct{ Unexpected []string }
	require.NoError(t, json.Unmarshal([]byte(say(t, "inspect", "--json", dir).stdout), &in))
	assert.Contains(t, in.Unexpected, "model.layers.0."+evil+".weight", "JSON keeps names as they are")
}
