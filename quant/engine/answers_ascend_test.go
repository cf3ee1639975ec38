package engine_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
)

// ascendRecord is what a release's platform lists, and which scheme its
// configuration class for compressed-tensors builds for every module
// (interop/record_engines.py).
type ascendRecord struct {
	Library  string
	Platform []string
	Answers  map[string]map[string]map[string]json.RawMessage // declaration, model, answer → positions in the modules of vllm.json
}

// TestAscendAnswers holds matching and formats to what vllm-ascend's own
// classes did, in its oldest release and its newest one.
func TestAscendAnswers(t *testing.T) {
	rows := foreign(t)
	var built recorded
	readJSON(t, "testdata/vllm.json", &built)
	for _, version := range []string{"0.18", "0.30"} {
		var rec ascendRecord
		readJSON(t, "testdata/vllm-ascend-"+version+".json", &rec)
		r, err := engine.Find("vllm-ascend@" + version)
		require.NoError(t, err)
		require.Equal(t, r.String(), rec.Library)
		require.Greater(t, len(rec.Answers), 25)
		for name, raw := range rows {
			conf, err := engine.ParseConfig(raw)
			if err != nil {
				continue
			}
			method := conf.Method
			if method == "modelopt" && strings.Contains(string(raw), `"MXFP8"`) {
				method = "modelopt_mxfp8"
			}
			switch {
			case !slices.Contains([]string{"modelopt", "modelopt_mxfp8", "quark", "gptq", "awq", "auto-round", "compressed-tensors"}, method):
			case !slices.Contains(rec.Platform, method):
				t.Run(version+"/not on the platform/"+name, func(t *testing.T) { assertRefusesWhole(t, r, conf) })
			case method == "compressed-tensors" && !strings.Contains(string(raw), `"sparseml"`): // its former name is on no platform's list
				require.Contains(t, rec.Answers, name)
				t.Run(version+"/"+name, func(t *testing.T) {
					for model, answers := range rec.Answers[name] {
						compareSchemes(t, r, preset(t, model), conf, model, built.Modules[model], answers)
					}
				})
			}
		}
	}
}

func preset(t *testing.T, model string) *glm.Config {
	t.Helper()
	raw, err := os.ReadFile("testdata/models/" + model + ".json")
	require.NoError(t, err)
	cfg, err := glm.ParseConfig(raw)
	require.NoError(t, err)
	return cfg
}

func assertRefusesWhole(t *testing.T, r engine.Release, conf *engine.Config) {
	t.Helper()
	cfg := preset(t, "glm4moe")
	for _, m := range engine.Modules(r, cfg, false) {
		res := engine.Resolve(r, cfg, conf, m)
		assert.True(t, res.Whole, "%s: %+v", m.Name, res)
		assert.Contains(t, res.Err, "not supported in npu")
	}
}

func compareSchemes(t *testing.T, r engine.Release, cfg *glm.Config, conf *engine.Config, model string, modules [][2]string, answers map[string]json.RawMessage) {
	t.Helper()
	want := map[string]string{}
	_, whole := answers["*"]
	for answer, raw := range answers {
		if whole {
			break
		}
		var at []int
		require.NoError(t, json.Unmarshal(raw, &at))
		for _, i := range at {
			want[modules[i][0]] = answer
		}
	}
	seen := 0
	for _, m := range engine.Modules(r, cfg, true) {
		answer, known := want[m.Name]
		if whole && (m.Kind == engine.Linear || m.Kind == engine.Experts) {
			seen++
			res := engine.Resolve(r, cfg, conf, m)
			assert.True(t, res.Err != "" || !res.Weight.Quantized(), "%s: %s", m.Name, answers["*"])
		}
		if !known || m.Kind != engine.Linear && m.Kind != engine.Experts {
			continue
		}
		seen++
		res := engine.Resolve(r, cfg, conf, m)
		what := model + " " + m.Name + ": " + answer
		switch {
		case answer == "":
			assert.False(t, res.Weight.Quantized(), what)
			assert.Empty(t, res.Err, what)
		case strings.Contains(answer, "ValueError"):
			assert.NotEmpty(t, res.Err, what)
		case strings.HasPrefix(answer, "!"):
			assert.Equal(t, engine.Refuses, formAnswer(t, r, cfg, conf, m, res), "%s: %s", what, res.Weight)
		default:
			assert.Empty(t, res.Err, what)
			assert.Equal(t, strings.HasPrefix(answer, "W4"), res.Weight.Bits == 4, "%s: %s", what, res.Weight)
		}
	}
	assert.NotZero(t, seen)
}

// formAnswer is the verdict on a checkpoint with one such part, on the newest
// chip.
func formAnswer(t *testing.T, r engine.Release, cfg *glm.Config, conf *engine.Config, m engine.Module, res engine.Resolution) engine.Answer {
	t.Helper()
	p := engine.Part{Weight: res.Weight}
	for _, g := range conf.Groups {
		if g.Weight != res.Weight {
			continue
		}
		if p.Weight = g.Weights; g.Acts != nil {
			p.Acts = *g.Acts
		}
	}
	s := engine.Subject{Config: cfg, Layout: engine.CompressedTensors}
	if m.Kind == engine.Experts {
		s.Experts = p
	} else {
		s.Dense = p
	}
	d, err := engine.FindDevice("ascend-950pr")
	require.NoError(t, err)
	return engine.Summarize(engine.Judge(s, engine.Query{Releases: []engine.Release{r}, Hardware: &d})).Answer
}
