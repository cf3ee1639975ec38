package bench

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inWords counts the words of a text, in a tokenizer's place.
func inWords(text string) int { return len(strings.Fields(text)) }

// TestNoUsage: tokens of a server that sends no usage are counted from the text, or as
// messages, and the run says so.
func TestNoUsage(t *testing.T) {
	usage := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.Error(w, "no", http.StatusNotFound)
			return
		}
		fmt.Fprint(w, `data: {"choices":[{"delta":{"role":"assistant","content":""}}]}`+"\n\n")
		if r.URL.Path == "/v1/completions" {
			fmt.Fprint(w, `data: {"choices":[{"text":"so "}]}`+"\n\n")
		} else {
			fmt.Fprint(w, `data: {"choices":[{"delta":{"reasoning":"so ","reasoning_content":"so "}}]}`+"\n\n")
		}
		for _, text := range []string{"one two ", "three "} {
			if r.URL.Path == "/v1/completions" {
				fmt.Fprintf(w, `data: {"choices":[{"text":%q}]}`+"\n\n", text)
			} else {
				fmt.Fprintf(w, `data: {"choices":[{"delta":{"content":%q}}]}`+"\n\n", text)
			}
		}
		fmt.Fprint(w, `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`+"\n\n"+usage+"data: [DONE]\n\n")
	}))
	defer s.Close()
	chat := []any{map[string]any{"role": "system", "content": "be short"}, map[string]any{"role": "user", "content": []any{map[string]any{"type": "text", "text": " to me"}}}}
	for _, tc := range []struct {
		name     string
		usage    string
		count    func(string) int
		prompt   Prompt
		in, out  int
		again    int
		warning  string
		sglang   string
		complain string // about the prompts
	}{
		{name: "text", count: inWords, prompt: Prompt{Text: "a b c"}, in: 3, out: 4, again: 4, warning: "counted from the text", sglang: "4 "},
		{name: "messages of a chat", count: inWords, prompt: Prompt{Messages: chat, Text: "to me"}, in: 4, out: 4, again: 4, warning: "counted from the text", sglang: "4 "},
		{name: "ids", count: inWords, prompt: Prompt{Text: "a", IDs: []int{1, 2}}, in: 2, out: 4, again: 4, warning: "counted from the text", sglang: "4 "},
		{name: "nothing counts", prompt: Prompt{Text: "a b c"}, out: 3, again: -1, warning: "each message is counted as one token", sglang: "n/a", complain: "tokens of 1 prompts are not counted"},
		{name: "usage", usage: `data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9}}` + "\n\n", count: inWords, prompt: Prompt{Text: "a b c"}, in: 7, out: 9, again: 4,
			warning: "shorter than asked", sglang: "4 "},
	} {
		for _, b := range []Backend{Chat, Completions} {
			t.Run(tc.name+" "+string(b), func(t *testing.T) {
				usage = tc.usage
				p := tc.prompt
				p.Out = 50
				r, err := Run(context.Background(), Load{URL: s.URL, Backend: b, Prompts: []Prompt{p}, Count: tc.count})
				require.NoError(t, err)
				f := r.Figures()
				require.Zero(t, f.Failed, f.FirstError)
				assert.Equal(t, [3]int{tc.in, tc.out, tc.again}, [3]int{f.InputTokens, f.OutTokens, f.Retokenized})
				assert.Positive(t, f.Output)
				assert.NotZero(t, r.Requests[0].each())
				said := strings.Join(f.Warnings, "\n")
				assert.Contains(t, said, tc.warning)
				assert.Contains(t, said, tc.complain)
				assert.Equal(t, tc.usage != "", strings.Contains(said, "shorter"), said)
				var text, line bytes.Buffer
				require.NoError(t, WriteSGLang(&text, f, ""))
				assert.Contains(t, text.String(), "Total generated tokens (retokenized):    "+tc.sglang)
				require.NoError(t, r.SaveSGLang(&line, f))
				for _, form := range [][]byte{text.Bytes(), line.Bytes()} {
					back, err := Read(form)
					require.NoError(t, err)
					assert.Equal(t, tc.again, back[0].Retokenized)
				}
			})
		}
	}
}
