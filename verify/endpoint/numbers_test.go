package endpoint

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/verify"
)

// TestRanksAskedAgain: what is asked twice is asked of the same data parallel rank,
// so that a rank that strays is found as one and is not taken for unrest.
func TestRanksAskedAgain(t *testing.T) {
	dir := folder(t)
	f := newFake(t, dir)
	astray := newFake(t, dir)
	astray.shift = -0.5
	routes := f.vllm()
	routes["/metrics"] = func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("vllm:num_requests_running{engine=\"0\"} 0\nvllm:num_requests_running{engine=\"1\"} 0\n"))
	}
	routes["/v1/completions"] = func(w http.ResponseWriter, r *http.Request) {
		from := f
		if r.Header.Get("X-Data-Parallel-Rank") == "1" {
			from = astray
		}
		from.vllm()["/v1/completions"](w, r)
	}
	o := few(f.serve(routes))
	text := ids(t, f, 30)
	for i := range 12 {
		o.Verify.TokenIDs = append(o.Verify.TokenIDs, text[i:i+18])
	}
	r, err := Verify(t.Context(), dir, "", o)
	require.NoError(t, err)
	s := r.Servers[0]
	require.Len(t, s.Ranks, 2)
	assert.Zero(t, s.Repeat.Max)
	states := map[string]string{}
	for _, c := range s.Checks {
		states[c.ID] = c.State
	}
	assert.Equal(t, passed, states["repeat"], r.Text())
	assert.Equal(t, failed, states["ranks"], r.Text())
	assert.Contains(t, r.Text(), "rank 1 strays")
}

// TestNoNumber: what is NaN is judged as nothing, names no cause, and can be
// written.
func TestNoNumber(t *testing.T) {
	nan := math.NaN()
	kl, reverse, tail := coarse(map[int]float64{0: nan, 1: -1}, map[int]float64{0: -1, 1: -1})
	assert.True(t, math.IsNaN(kl) && math.IsNaN(reverse) && math.IsNaN(tail), "%v %v %v", kl, reverse, tail)
	signs := []Sign{{"none", nan}, {"far", 3}, {"near", 1}}
	slices.SortStableFunc(signs, nearer)
	assert.Equal(t, "near", signs[0].Name)
	assert.Equal(t, "none", signs[2].Name)

	for name, figures := range map[string]Figures{"kl": {Tokens: 500, KL: nan}, "tail": {Tokens: 500, Tail: nan}, "abs": {Tokens: 500, Abs: nan}} {
		v := &verifying{o: &Options{}, r: &Result{Verdict: verify.Pass}}
		s := &Server{Figures: figures}
		v.judge(s)
		assert.Equal(t, []string{"kl", undecided}, []string{s.Checks[0].ID, s.Checks[0].State}, name)
		assert.Equal(t, verify.Undecided, v.r.Verdict, name)
	}

	inf := math.Inf(-1)
	f := Figures{KL: nan, Tail: nan, Top1: nan, Top10: inf, Rank: nan, Halves: [2]float64{nan, 1}, Places: []Place{{KL: inf, Delta: 2}}}
	r := &Result{Floor: Floor{KL: nan, NLL: nan}, File: &FileVerdict{MeanKL: nan}, Servers: []Server{{Figures: f, Original: &f,
		Repeat: Repeat{Abs: nan, Max: nan}, Ranks: []Rank{{Abs: nan}}, Signs: []Sign{{"x", nan}}}}}
	var b bytes.Buffer
	require.NoError(t, JSON(&b, r))
	var back Result
	require.NoError(t, json.Unmarshal(b.Bytes(), &back))
	got := back.Servers[0].Figures
	assert.Equal(t, []float64{math.MaxFloat64, math.MaxFloat64, -math.MaxFloat64, -math.MaxFloat64, 2}, []float64{got.KL, got.Tail, got.Top10, got.Places[0].KL, got.Places[0].Delta})
	assert.True(t, math.IsNaN(r.Servers[0].Figures.KL) && math.IsNaN(r.Floor.KL), "the result itself stays as it is")
	require.NotNil(t, back.Servers[0].Original)
}
