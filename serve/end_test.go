package serve

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEndCounts: the token that ends a text is counted and judged like any other,
// in one piece and in streams, on every route, and is no text.
func TestEndCounts(t *testing.T) {
	for _, o := range []Options{{}, {Speculative: 2}} {
		s, url := start(t, o)
		prompt, _ := json.Marshal(counting(8, 5))
		_, text := post(t, url+"/v1/completions", `{"prompt":`+string(prompt)+`,"max_tokens":4,"temperature":0,"ignore_eos":true,"return_token_ids":true}`)
		var free completion
		require.NoError(t, json.Unmarshal([]byte(text), &free))
		ids := free.Choices[0].IDs
		require.Len(t, ids, 4)
		for at := range ids { // it ends where that token comes first
			first := at
			for i := range ids[:at] {
				if ids[i] == ids[at] {
					first = i
					break
				}
			}
			want := first + 1
			body := fmt.Sprintf(`"max_tokens":4,"temperature":0,"ignore_eos":true,"stop_token_ids":[%d]`, ids[at])
			_, text := post(t, url+"/v1/completions", `{"prompt":`+string(prompt)+`,`+body+`,"return_token_ids":true,"logprobs":1,"prompt_logprobs":1,"echo":true}`)
			var m struct {
				Choices []struct {
					IDs     []int `json:"token_ids"`
					Reason  string
					Why     *int `json:"stop_reason"`
					Text    string
					Prompts []any `json:"prompt_logprobs"`
					Probs   struct {
						Values []*float64 `json:"token_logprobs"`
					} `json:"logprobs"`
				}
				Usage struct {
					Made int `json:"completion_tokens"`
				}
			}
			require.NoError(t, json.Unmarshal([]byte(text), &m), text)
			c := m.Choices[0]
			assert.Equal(t, want, m.Usage.Made)
			assert.Equal(t, ids[:want], c.IDs)
			require.NotNil(t, c.Why, text)
			assert.Equal(t, ids[at], *c.Why)
			assert.Len(t, c.Prompts, 8, "with the first token too")
			assert.Len(t, c.Probs.Values, 8+want)
			assert.Equal(t, s.tok.Decode(counting(8, 5))+s.tok.Decode(ids[:first]), c.Text)
			_, text = post(t, url+"/v1/completions", `{"prompt":`+string(prompt)+`,`+body+`,"stream":true,"stream_options":{"include_usage":true}}`)
			assert.Contains(t, text, fmt.Sprintf(`"completion_tokens":%d,`, want))
			assert.Contains(t, text, fmt.Sprintf(`"stop_reason":%d`, ids[at]))
			for _, stream := range []string{"", `"stream":true,`} {
				_, text = post(t, url+"/generate", fmt.Sprintf(`{"input_ids":%s,%s"sampling_params":{"max_new_tokens":4,"temperature":0,"ignore_eos":true,"stop_token_ids":[%d]}}`, prompt, stream, ids[at]))
				assert.Contains(t, text, fmt.Sprintf(`"completion_tokens":%d,`, want))
			}
		}
	}
}

// TestEndOfChat: likewise for chats; the tokenizer's own end has no stop_reason, a
// stop string is its own.
func TestEndOfChat(t *testing.T) {
	s, url := start(t, Options{})
	eos := s.model.Config().EOS
	for i, id := range eos {
		body := fmt.Sprintf(`{"messages":[{"role":"user","content":"hi"}],"max_tokens":4,"temperature":0,"logprobs":true,"return_token_ids":true,"logit_bias":{"%d":100}`, id)
		code, text := post(t, url+"/v1/chat/completions", body+"}")
		require.Equal(t, 200, code, text)
		assert.Contains(t, text, `"completion_tokens":1,`)
		assert.Contains(t, text, fmt.Sprintf(`"token_ids":[%d]`, id))
		assert.Contains(t, text, `"finish_reason":"stop"`)
		want := fmt.Sprintf(`"stop_reason":%d`, id)
		if i == 0 {
			want = `"stop_reason":null`
		}
		assert.Contains(t, text, want)
		assert.Equal(t, 1, strings.Count(text, `"top_logprobs"`), "of the one token")
		_, text = post(t, url+"/v1/chat/completions", body+`,"stream":true,"stream_options":{"include_usage":true}}`)
		assert.Contains(t, text, `"completion_tokens":1,`)
		assert.Equal(t, 1, strings.Count(text, `"top_logprobs"`))
	}
	_, text := post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":8,"temperature":0,"ignore_eos":true}`)
	var m struct {
		Choices []struct{ Message struct{ Content string } }
	}
	require.NoError(t, json.Unmarshal([]byte(text), &m))
	if said := m.Choices[0].Message.Content; assert.NotEmpty(t, said) {
		stop, _ := json.Marshal(said[len(said)-1:])
		_, text = post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":8,"temperature":0,"ignore_eos":true,"stop":`+string(stop)+`}`)
		assert.Contains(t, text, `"stop_reason":`+string(stop))
	}
}
