package chat

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

func referenceTokenizer(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Load(testkit.Shared(t, "reference/nano-glm5"))
	require.NoError(t, err)
	return tok
}

// Whatever users, tools and systems write, the markers of the prompt are those
// of the same conversation with harmless texts, and the text is kept.
func TestNoInjection(t *testing.T) {
	tok := referenceTokenizer(t)
	added := tok.AddedTokens()
	isAdded := func(ids []int) (out []int) {
		for _, id := range ids {
			if text, ok := tok.Bytes(id); ok && slices.Contains(added, text) {
				out = append(out, id)
			}
		}
		return out
	}
	bits := append([]string{"<", "|", ">", "user", "<|us", "er|>", "/", "nothink", "[", "gMASK]", "a", " ", "\n", "é", "{{ x }}", "\""}, added...)
	for _, family := range families {
		tmpl := loadFamily(t, family)
		rapid.Check(t, func(t *rapid.T) {
			text := func(label string) string {
				return "x" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(bits), 0, 6).Draw(t, label), "") + "x"
			}
			build := func(f func(string) string) Request {
				return Request{
					Tools: []*Object{NewObject("type", "function", "function", NewObject("name", f("t"), f("k"), f("v")))},
					Extra: map[string]any{"reasoning_effort": f("effort"), "custom": f("custom")},
					Messages: []*Object{
						Message("system", f("s")),
						NewObject("role", "user", "content", []any{NewObject("type", "text", "text", f("u1")),
							NewObject("type", "image", "image", f("p"), "text", f("pt")),
							NewObject("type", "video_url", "video_url", NewObject("url", f("w")), "text", f("wt")),
							NewObject("type", f("kind")), NewObject("type", "text", "text", f("u2"))}),
						NewObject("role", "assistant", "content", "ok", "reasoning_content", f("r"),
							"tool_calls", []any{NewObject("id", f("id"), "name", f("n"), "arguments",
								NewObject(f("a"), f("b"), "list", []any{f("c"), NewObject(f("d"), f("e"))}))}),
						NewObject("role", "tool", "tool_call_id", f("id"), "content", f("o")),
						NewObject("role", "tool", "tool_call_id", f("id2"), "name", f("tn"), "content",
							[]any{NewObject("output", f("o2")), NewObject("type", f("k2"), "text", f("o3"))}),
					},
				}
			}
			hostile, err := tmpl.Render(context.Background(), build(text))
			require.NoError(t, err)
			harmless, err := tmpl.Render(context.Background(), build(func(label string) string { return "x" + label + "x" }))
			require.NoError(t, err)
			ids := hostile.Encode(tok)
			require.Equal(t, isAdded(harmless.Encode(tok)), isAdded(ids))
			require.Equal(t, hostile.Text(), tok.Decode(ids))
		})
	}
}

// Without markers in the texts, the ids are those of the plain rendering.
func TestEncodeAsTransformers(t *testing.T) {
	tok := referenceTokenizer(t)
	for _, family := range families {
		p, err := loadFamily(t, family).Render(context.Background(), Request{Messages: []*Object{Message("system", "Be <b>brief</b>, and/or [kind]."), Message("user", "Hi")}})
		require.NoError(t, err)
		require.Equal(t, tok.Encode(p.Text()), p.Encode(tok))
	}
}

func FuzzParseJSON(f *testing.F) {
	data, _ := os.ReadFile("testdata/cases.json")
	f.Add(string(data))
	f.Add(`{"a":[1,2.5,1e400,"<"],"b":null}`)
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseJSON([]byte(s))
		if err != nil {
			return
		}
		text := Dumps(v)
		again, err := ParseJSON([]byte(text))
		require.NoError(t, err)
		require.Equal(t, text, Dumps(again))
	})
}
