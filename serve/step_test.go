package serve

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestStepsAreMessages: a stream has one message for each step of the model, of
// one token or of one and its drafts, on every route; the last has the reason, but
// for chats, in which the role comes before the first and the reason behind the
// last.
func TestStepsAreMessages(t *testing.T) {
	const made = 24
	fewer := 0
	for _, drafts := range []int{0, 3} {
		s, url := start(t, Options{Speculative: drafts})
		for i := range 4 {
			prompt, err := json.Marshal(counting(11+6*i, 3+2*i))
			require.NoError(t, err)
			talk := fmt.Sprintf(`{"messages":[{"role":"user","content":"count to %d"}],"stream":true,"max_tokens":%d,"temperature":0,"ignore_eos":true}`, i, made)
			for _, r := range []struct {
				route, body string
				more        []int // messages besides, at the least and at the most
			}{
				{"/v1/completions", fmt.Sprintf(`{"prompt":%s,"stream":true,"max_tokens":%d,"temperature":0,"ignore_eos":true}`, prompt, made), []int{0, 0}},
				{"/generate", fmt.Sprintf(`{"input_ids":%s,"stream":true,"sampling_params":{"temperature":0,"max_new_tokens":%d,"ignore_eos":true}}`, prompt, made), []int{0, 0}},
				{"/v1/chat/completions", talk, []int{0, 2}}, // where the first or last step has no text, the role or reason is its message
			} {
				before := s.metrics.passes.Load()
				code, text := post(t, url+r.route, r.body)
				require.Equal(t, 200, code, text)
				steps := made
				if drafts > 0 {
					steps = 1 + int(s.metrics.passes.Load()-before)
				}
				if steps < made {
					fewer++
				}
				messages := strings.Count(text, "data: {")
				assert.GreaterOrEqual(t, messages, steps+r.more[0], "%s, %d drafts, prompt %d", r.route, drafts, i)
				assert.LessOrEqual(t, messages, steps+r.more[1], "%s, %d drafts, prompt %d", r.route, drafts, i)
			}
		}
	}
	assert.Positive(t, fewer, "no draft was accepted")
}
