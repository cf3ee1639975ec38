package chat

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type answer struct {
	reasoning, content, calls string
	truncated                 bool
}

func parse(prompt string, tools []*Object, pieces ...string) answer {
	p := NewParser(prompt, tools)
	var d Delta
	for _, s := range pieces {
		d.add(p.Add(s))
	}
	last, truncated := p.Finish()
	d.add(last)
	a := answer{reasoning: d.Reasoning, content: d.Content, truncated: truncated}
	for _, c := range d.Calls {
		a.calls += c.Name + Dumps(c.Arguments) + ";"
	}
	return a
}

var parserTools, _ = ParseTools([]byte(`[{"type":"function","function":{"name":"f","parameters":{"properties":{
 "s":{"type":"string"},"n":{"type":"integer"},"u":{"anyOf":[{"type":"string"},{"type":"integer"}]}}}}}]`))

func TestParser(t *testing.T) {
	for name, c := range map[string]struct {
		prompt, text string
		want         answer
	}{
		"think opened by prompt": {"<think>", "why\n</think>\n\nyes\n", answer{reasoning: "why", content: "yes\n"}},
		"think in answer":        {"<|assistant|>", "\n<think>\nwhy</think>\nyes", answer{reasoning: "why", content: "yes"}},
		"leading think twice":    {"<think>", "<think>why</think>yes", answer{reasoning: "why", content: "yes"}},
		"no tags":                {"<|assistant|>", "plain <b> </thin", answer{content: "plain <b> </thin"}},
		"thinking off":           {"</think>", "yes < no", answer{content: "yes < no"}},
		"ends in reasoning":      {"<think>", "a\nb\n", answer{reasoning: "a\nb"}},
		"glm45 call": {"</think>", "ok\n<tool_call>f\n<arg_key>s</arg_key>\n<arg_value> 1\n</arg_value>\n<arg_key>n</arg_key>\n<arg_value> 2 " +
			"</arg_value>\n</tool_call>", answer{content: "ok", calls: `f{"s": " 1\n", "n": 2};`}},
		"glm47 call": {"</think>", "<tool_call>f<arg_key>u</arg_key><arg_value>7</arg_value><arg_key>x</arg_key><arg_value>{'a': True, 'b': " +
			"None}</arg_value></tool_call><tool_call>g</tool_call>", answer{calls: `f{"u": 7, "x": {"a": true, "b": null}};g{};`}},
		"union string":        {"</think>", "<tool_call>f<arg_key>u</arg_key><arg_value>true</arg_value></tool_call>", answer{calls: `f{"u": "true"};`}},
		"no arguments":        {"</think>", "<tool_call>g\n</tool_call>\n<tool_call>h</tool_call>", answer{calls: `g{};h{};`}},
		"call ends reasoning": {"<think>", "hm\n<tool_call>g</tool_call>", answer{reasoning: "hm", calls: `g{};`}},
		"duplicate and raw": {"</think>", "<tool_call>f<arg_key>n</arg_key><arg_value>1</arg_value><arg_key>n</arg_key><arg_value>a <b> & " +
			"</c></arg_value></tool_call>", answer{calls: `f{"n": "a <b> & </c>"};`}},
		"cut":             {"</think>", "a<tool_call>f<arg_key>s</arg_key><arg_va", answer{content: "a", truncated: true}},
		"stray close":     {"</think>", "<tool_call>f</arg_value></tool_call>", answer{calls: `f{};`}},
		"reasoning again": {"</think>", "a<think>b</think>c", answer{reasoning: "b", content: "ac"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, parse(c.prompt, parserTools, c.text))
			var single []string
			for i := range len(c.text) {
				single = append(single, c.text[i:i+1])
				require.Equal(t, c.want, parse(c.prompt, parserTools, c.text[:i], c.text[i:]), "cut at %d", i)
			}
			require.Equal(t, c.want, parse(c.prompt, parserTools, single...), "byte by byte")
		})
	}
}

func FuzzParser(f *testing.F) {
	f.Add("<think>", "a</think>b<tool_call>f<arg_key>s</arg_key><arg_value>v</arg_value></tool_call>")
	f.Add("", " <think>\n</think>\n <tool_call>")
	f.Fuzz(func(t *testing.T, prompt, text string) {
		if len(text) > 4096 {
			return
		}
		whole := parse(prompt, parserTools, text)
		var single []string
		for i := range len(text) {
			single = append(single, text[i:i+1])
		}
		require.Equal(t, whole, parse(prompt, parserTools, single...))
	})
}
