package engine_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
)

// recorded is what an engine's own classes made of other tools' declarations
// (interop/record_engines.py).
type recorded struct {
	Library string                                // the release as Find reads it, with a space
	Modules map[string][][2]string                // of each model: name and kind
	Answers map[string]map[string]json.RawMessage // declaration, model → answer: positions in Modules
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, v), path)
}

// foreign are the declarations that were asked about.
func foreign(t *testing.T) map[string]json.RawMessage {
	t.Helper()
	var rows map[string]json.RawMessage
	readJSON(t, "testdata/foreign.json", &rows)
	paths, err := filepath.Glob("../declaration/testdata/configs/*.json")
	require.NoError(t, err)
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		rows[filepath.Base(p)] = raw
	}
	return rows
}

// code writes a weight as the records do.
func code(w format.Weight) string {
	switch {
	case !w.Quantized():
		return ""
	case w.SameCodes(format.NVFP4):
		return "fp4/16"
	case w.SameCodes(format.MXFP4):
		return "mxfp4"
	case w.SameCodes(format.MXFP8):
		return "mxfp8"
	case w.Type == format.Int && w.Strategy == format.Channel:
		return fmt.Sprintf("int%d/-1", w.Bits)
	case w.Type == format.Int:
		return fmt.Sprintf("int%d/%d", w.Bits, w.Group)
	case w.Strategy == format.Block:
		return fmt.Sprintf("fp8/%dx%d", w.BlockRows, w.BlockCols)
	}
	return "fp8/" + w.Strategy.String()
}

// TestPublishedAnswers: every module of every model, in every declaration of
// another tool, is taken for what the engine's own classes took it for; where
// they stopped there is an error, and nothing is left unjudged but what the
// list names.
func TestPublishedAnswers(t *testing.T) {
	rows := foreign(t)
	for _, name := range []string{"vllm", "sglang"} {
		var rec recorded
		readJSON(t, "testdata/"+name+".json", &rec)
		r, err := engine.Find(strings.Replace(rec.Library, " ", "@", 1))
		require.NoError(t, err)
		require.Greater(t, len(rec.Answers), 180)
		for decl, models := range rec.Answers {
			t.Run(name+"/"+decl, func(t *testing.T) {
				conf, err := engine.ParseConfig(rows[decl])
				require.NoError(t, err)
				for model, answers := range models {
					var cfg *glm.Config
					raw, err := os.ReadFile("testdata/models/" + model + ".json")
					require.NoError(t, err)
					cfg, err = glm.ParseConfig(raw)
					require.NoError(t, err)
					compareAnswers(t, r, cfg, conf, model, rec.Modules[model], answers)
				}
			})
		}
	}
}

func compareAnswers(t *testing.T, r engine.Release, cfg *glm.Config, conf *engine.Config, model string, modules [][2]string, raw json.RawMessage) {
	t.Helper()
	var answers map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &answers))
	want := map[string]string{}
	for answer, at := range answers {
		var list []int
		if !strings.HasPrefix(answer, "*") {
			require.NoError(t, json.Unmarshal(at, &list))
		}
		for _, i := range list {
			want[modules[i][0]] = answer
		}
	}
	_, whole := answers["*"]
	seen := 0
	for _, m := range engine.Modules(r, cfg, conf.Method == "compressed-tensors") {
		res := engine.Resolve(r, cfg, conf, m)
		answer, known := want[m.Name]
		switch {
		case whole:
			assert.True(t, res.Err != "" || res.Unknown != "", "%s %s: the engine stops, we say %q: %s", model, m.Name, code(res.Weight), answers["*"])
			continue
		case !known:
			if m.Kind == engine.Linear || m.Kind == engine.Experts {
				t.Errorf("%s: the engine has no module %s", model, m.Name)
			}
			continue
		case res.Unknown != "":
			if !t.Failed() {
				t.Logf("%s %s: not judged: %s", model, m.Name, res.Unknown)
			}
			continue
		}
		seen++
		got := code(res.Weight)
		if res.Err != "" {
			got = "!"
		}
		if strings.HasPrefix(answer, "!") {
			assert.Equal(t, "!", got, "%s %s: the engine says %s", model, m.Name, answer)
			continue
		}
		assert.Equal(t, answer, got, "%s %s (%s)", model, m.Name, res.Err)
	}
	if !whole {
		assert.NotZero(t, seen)
	}
}
