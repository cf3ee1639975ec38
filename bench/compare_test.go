package bench

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func measured(total, tpot, p99 float64) Figures {
	f := empty()
	f.Completed, f.Concurrency, f.Total, f.Output, f.TPOT.Mean, f.TPOT.Median, f.TTFT.Median, f.TTFT.P[99] = 10, 4, total, total/2, tpot, tpot, 20, p99
	return f
}

// TestComparison: the figures asked for, their changes (of throughput for each
// device), and a failed run, in every form.
func TestComparison(t *testing.T) {
	metrics, err := ParseMetrics("p99-ttft,output,tpot,p99-ttft")
	require.NoError(t, err)
	lost := empty()
	lost.FirstError = "no | kernel, <b>"
	c := &Comparison{Cases: []Case{{"a", measured(100, 10, 50), measured(240, 8, 60)}, {"b", measured(100, 10, 50), lost}}, BaseGPUs: 4, NewGPUs: 8, Metrics: metrics,
		Steps: []StepGain{{"engine", "+57.8%"}}}
	var b bytes.Buffer
	require.NoError(t, c.WriteMarkdown(&b))
	assert.Equal(t, strings.Join([]string{
		"| case | base tok/s | new tok/s | gain | base TPOT (ms) | new TPOT (ms) | change | base P99 TTFT (ms) | new P99 TTFT (ms) | change | base output tok/s | new output tok/s | change |",
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|",
		"| a | 100.00 | 240.00 | +20.0% | 10.00 | 8.00 | -20.0% | 50.00 | 60.00 | +20.0% | 50.00 | 120.00 | +20.0% |",
		`| b | 100.00 | no \| kernel, <b> | – | 10.00 | – | – | 50.00 | – | – | 50.00 | – | – |`,
		"", "| step | gain |", "|---|---|", "| engine | +57.8% |", ""}, "\n"), b.String())

	b.Reset()
	require.NoError(t, c.WriteCSV(&b))
	first, _, _ := strings.Cut(b.String(), "\n\n")
	rows, err := csv.NewReader(strings.NewReader(first)).ReadAll()
	require.NoError(t, err)
	assert.Equal(t, c.Table(), rows)

	b.Reset()
	require.NoError(t, c.WriteJSON(&b))
	var doc struct {
		Schema string
		GPUs   []int
		Cases  []struct {
			Case      string
			Base, New struct {
				Figures map[string]*float64
				Error   string
			}
			Changes map[string]*float64 `json:"change_percent"`
			Notes   []string
		}
		Steps []map[string]string
	}
	require.NoError(t, json.Unmarshal(b.Bytes(), &doc))
	assert.Equal(t, CompareSchema, doc.Schema)
	assert.Equal(t, []int{4, 8}, doc.GPUs)
	require.Len(t, doc.Cases, 2)
	assert.InDelta(t, 20, *doc.Cases[0].Changes["total_token_throughput"], 1e-9)
	assert.InDelta(t, 60, *doc.Cases[0].New.Figures["p99_ttft_ms"], 1e-9)
	assert.Equal(t, lost.FirstError, doc.Cases[1].New.Error)
	assert.Nil(t, doc.Cases[1].New.Figures["mean_tpot_ms"])
	assert.Nil(t, doc.Cases[1].Changes["output_throughput"])
	assert.Equal(t, []map[string]string{{"step": "engine", "gain": "+57.8%"}}, doc.Steps)

	b.Reset()
	require.NoError(t, c.WriteHTML(&b, "two"))
	assert.Contains(t, b.String(), "<td>&#43;57.8%</td>")
	assert.Contains(t, b.String(), "<td>no | kernel, &lt;b&gt;</td>")
	assert.Equal(t, 3, strings.Count(b.String(), "<table>"))
	assert.Equal(t, 3, strings.Count(b.String(), "<tbody>"))
}

// TestMetrics: each word is a figure of its own, and no other word is one.
func TestMetrics(t *testing.T) {
	f := measured(100, 10, 50)
	f.ITL.Std, f.E2EL.Mean, f.Duration, f.Requests, f.PeakOutput, f.Goodput = 1, 2, 3, 4, 5, 6
	for word, want := range map[string]float64{"std-itl": 1, "e2el": 2, "mean-e2el": 2, "duration": 3, "requests": 4, "peak": 5, "goodput": 6, "median-ttft": 20, "p99-ttft": 50, "output": 50} {
		list, err := ParseMetrics(word)
		require.NoError(t, err, word)
		require.Len(t, list, 1)
		assert.Equal(t, want, list[0].of(&f), word)
	}
	list, err := ParseMetrics("p7-ttft")
	require.NoError(t, err)
	assert.True(t, math.IsNaN(list[0].of(&f)), "the report has no such percentile")
	for _, bad := range []string{"", "speed", "p0-ttft", "p100-ttft", "p09-ttft", "max-ttft", "-ttft", "p-ttft", "p99-output", "ttft,,itl"} {
		_, err := ParseMetrics(bad)
		assert.Error(t, err, bad)
	}
}

// TestFailedRuns: what a log or a client's JSON says of a run without figures.
func TestFailedRuns(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"a remark", "# Crash. FP8 not supported on A100\n", "Crash. FP8 not supported on A100"},
		{"a traceback", "INFO start\nTraceback (most recent call last):\n  File \"x.py\", line 3\ntorch.OutOfMemoryError: CUDA out of memory.\n", "torch.OutOfMemoryError: CUDA out of memory."},
		{"vLLM's JSON", `{"completed": 0, "failed": 2, "errors": ["", "Bad Request\nmore"]}`, "Bad Request"},
		{"our own", `{"completed": 0, "failed": 2, "first_error": "503"}`, "503"},
	} {
		list, err := ReadRuns([]byte(tc.text))
		require.NoError(t, err, tc.name)
		require.Len(t, list, 1, tc.name)
		assert.Equal(t, tc.want, list[0].failed(), tc.name)
		assert.Zero(t, list[0].Throughput(), tc.name)
	}
	for _, text := range []string{"", "hello\n", "all is well, terror aside\n", `{"error": "x"}`} {
		_, err := ReadRuns([]byte(text))
		assert.ErrorIs(t, err, ErrFormat, text)
	}
}
