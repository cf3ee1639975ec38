package serve

import (
	"encoding/binary"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/mutate"
)

// TestNoNumbers: a model that computes NaN is an error on every route and never
// an answer of the first token again and again, nor one that is no JSON.
func TestNoNumbers(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, demo.Extract(dir))
	ok, err := mutate.Edit(dir, func(s mutate.Set) (bool, error) {
		norm := s["model.norm.weight"]
		binary.LittleEndian.PutUint16(norm.Data, 0x7fc0)
		return true, nil
	})
	require.NoError(t, err)
	require.True(t, ok)
	s, err := New(dir, Options{})
	require.NoError(t, err)
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() { h.Close(); assert.NoError(t, s.Close()) })
	for _, c := range []struct{ name, route, body string }{
		{"completion", "/v1/completions", `{"prompt":[1,2,3],"max_tokens":4}`},
		{"log-probabilities of the prompt", "/v1/completions", `{"prompt":[1,2,3],"max_tokens":1,"prompt_logprobs":2}`},
		{"native", "/generate", `{"input_ids":[1,2,3],"sampling_params":{"max_new_tokens":4}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, text := post(t, h.URL+c.route, c.body)
			assert.Equal(t, 500, code)
			assert.Contains(t, text, "not numbers")
		})
	}
	code, text := post(t, h.URL+"/v1/completions", `{"prompt":[1,2,3],"max_tokens":4,"stream":true}`)
	assert.True(t, code == 500 || strings.Contains(text, `"error"`), text)
	assert.Contains(t, text, "not numbers")
}
