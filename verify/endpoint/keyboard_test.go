package endpoint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/report"
)

// shown is a result with everything that its page can show, long words included.
func shown() *Result {
	long := strings.Repeat("model.layers.12.mlp.experts.", 6)
	f := Figures{Tokens: 2048, KL: 0.004}
	for i := range 256 {
		f.Places = append(f.Places, Place{Pos: i, Delta: 0.01 + 0.0002*float64(i)})
	}
	checks := []Check{{"ids", passed, "32 sequences read as they were sent"}, {"kl", failed, "mean KL 0.31 at least, allowed 0.001: " + long}, {"repeat", undecided, "other requests came between"}, {"ranks", none, "one rank"}}
	return &Result{Verdict: verify.Fail, Fault: EngineFault, Cause: "the router bias of " + long + " is lost", Advice: []string{"glmconv check " + long, "--disable-shared-experts-fusion"},
		Served: "/data/" + long, Original: "GLM-4.5-Air", Corpus: "glmconv-eval-1", Failed: []verify.Failed{{Check: "kl"}}, File: &FileVerdict{Verdict: verify.Pass, MeanKL: 0.002},
		Servers: []Server{{URL: "http://node0:8000/" + long, Kind: "vllm", Version: "0.32.0", Model: "glm", Context: 131072, Checks: checks, Figures: f,
			Drafts: &Drafts{State: passed, Line: "25 of 39 accepted"}, Signs: []Sign{{"without the router bias", 0.0003}, {long, 0.2}}}},
		Probes: []Probe{{Name: "tool call", State: failed, Line: "no call in " + long}, {Name: "health", State: passed, Line: "200"}}}
}

// TestPageByKeyboard: Tab enters the page of the two folders and leaves it, and nothing
// is wider than a phone.
func TestPageByKeyboard(t *testing.T) {
	var folders strings.Builder
	require.NoError(t, report.HTML(&folders, &verify.Result{Verdict: verify.Pass, Identity: verify.Identity{Source: "GLM-4.5-Air", Result: "Air-w8a8"}}))
	for name, frames := range map[string][]string{"": {}, folders.String(): {"iframe"}} {
		path := filepath.Join(t.TempDir(), "page.html")
		f, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, HTML(f, shown(), name))
		require.NoError(t, f.Close())
		assert.Equal(t, "FAIL  engine: 1 check failed", shown().headline())
		p := testkit.OpenPage(t, path)
		for _, v := range testkit.Views {
			p.View(v.Width, v.Height, v.Scheme)
			tags := []string{}
			for _, s := range p.Walk() {
				tags = append(tags, s.Tag)
			}
			assert.Equal(t, frames, tags)
		}
	}
}
