package bench

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestExtract: where answers stand in texts.
func TestExtract(t *testing.T) {
	for _, c := range []struct {
		how              Scoring
		text, want, good string
	}{
		{Exact, " yes\n", "yes", "yes"}, {Number, "first 3, then 1,234.50.", "1234.50", "1234.5"}, {Number, `so \boxed{-7} of 9`, "-7", "-7.0"},
		{Number, `\boxed{\frac{1}{2}} and 12 %`, "2", "2"}, {Number, "none", "", ""}, {Number, `\boxed{5`, "5", "5"}, {Choice, "Answer: (B) because A is wrong", "B", "b"},
		{Choice, "The answer is C.", "C", "C"}, {Choice, `the answer is A ... \boxed{\text{D}}`, "D", "D"}, {Choice, "b", "B", "B"}, {Choice, "I do not know", "", ""},
		{Choice, "Answer: A\nNo. Answer: **D**", "D", "D"},
	} {
		got := c.how.Extract(c.text)
		assert.Equal(t, c.want, got, c.text)
		assert.Equal(t, c.want != "", c.how.Same(got, c.good), c.text)
	}
	assert.False(t, Number.Same("3", "4"))
	assert.False(t, Choice.Same("", ""))
}

// TestAccuracy: intervals and the paired test, with figures known from elsewhere.
func TestAccuracy(t *testing.T) {
	low, high := wilson(648, 899)
	assert.InDelta(t, 0.690, low, 1e-3)
	assert.InDelta(t, 0.749, high, 1e-3)
	assert.InDelta(t, 0.1094, mcnemar(2, 8), 1e-4) // 2·(1+10+45)/1024
	assert.EqualValues(t, 1, mcnemar(3, 3))
	assert.EqualValues(t, 1, mcnemar(0, 0))
	prompts, err := Lines([]byte(`{"id":"a","prompt":"1+1?","answer":"2"}
{"id":"b","messages":[{"role":"system","content":"s"},{"role":"user","content":"2+2?"}],"answer":4}
{"prompt":"look","images":["data:image/png;base64,AA=="],"answer":"5"}`), 8)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b", "3"}, []string{prompts[0].ID, prompts[1].ID, prompts[2].ID})
	r := &Result{Load: &Load{Prompts: prompts, Backend: Chat}, Requests: []Request{{Text: "it is 2", Out: 3}, {Text: "five", Out: 8}, {Err: "broken"}}}
	a := r.Accuracy(Number)
	assert.Equal(t, []int{1, 2, 1}, []int{a.Right, a.None, a.Cut})
	p := a.Against([]Score{{ID: "a"}, {ID: "b", Right: true}, {ID: "z", Right: true}})
	assert.Equal(t, []string{"a"}, p.Won)
	assert.Equal(t, []string{"b"}, p.Lost)
	assert.Equal(t, 2, p.Both)
	var b strings.Builder
	require.NoError(t, WriteAccuracy(&b, a, &p))
	assert.Contains(t, b.String(), "accuracy 33.3% (1 of 3)")
	assert.Contains(t, b.String(), "1 won, 1 lost")
	_, body := r.Load.body(&prompts[1])
	assert.Len(t, body["messages"], 2)
	_, body = r.Load.body(&prompts[2])
	parts := body["messages"].([]any)[0].(map[string]any)["content"].([]any)
	assert.Len(t, parts, 2)
}
