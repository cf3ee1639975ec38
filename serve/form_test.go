package serve

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// formed is an answer to a chat.
type formed struct {
	Choices []struct {
		Message struct {
			Content   *string
			Reasoning string
			Calls     []struct {
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		Reason string `json:"finish_reason"`
	}
}

func talk(t *testing.T, url, more string) formed {
	t.Helper()
	code, text := post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"say something"}],`+more+`}`)
	require.Equal(t, 200, code, text)
	var f formed
	require.NoError(t, json.Unmarshal([]byte(text), &f))
	return f
}

const personSchema = `{"type":"json_schema","json_schema":{"name":"p","schema":{"type":"object","properties":{"name":{"type":"string","maxLength":8},"age":{"type":"integer"},"tags":{"type":"array","items":{"enum":["a","b"]},"maxItems":3}},"required":["name","age"],"additionalProperties":false}}}`

// TestFormats: whatever the seed, with drafts and without, alone and in company, an
// answer is JSON of the schema, and the same.
func TestFormats(t *testing.T) {
	_, url := start(t, Options{})
	_, drafting := start(t, Options{Speculative: 2})
	var wg sync.WaitGroup
	for seed := range 5 {
		wg.Go(func() {
			more := fmt.Sprintf(`"temperature":%d,"seed":%d,"max_tokens":200,"response_format":%s`, seed%2, seed, personSchema)
			f := talk(t, url, more)
			assert.Equal(t, f, talk(t, drafting, more), "drafts change nothing")
			assert.Equal(t, "stop", f.Choices[0].Reason)
			var p struct {
				Name *string
				Age  *int
				Tags []string
			}
			dec := json.NewDecoder(strings.NewReader(*f.Choices[0].Message.Content))
			dec.DisallowUnknownFields()
			if assert.NoError(t, dec.Decode(&p), *f.Choices[0].Message.Content) {
				assert.NotNil(t, p.Name)
				assert.NotNil(t, p.Age)
				assert.LessOrEqual(t, len(p.Tags), 3)
			}
		})
	}
	wg.Wait()
	c := ask(t, url+"/v1/completions", body(counting(9, 5), `,"max_tokens":80,"temperature":0,"response_format":`+personSchema))
	assert.True(t, json.Valid([]byte(c.Choices[0].Text)), c.Choices[0].Text)
	code, text := post(t, url+"/generate", `{"text":"a","sampling_params":{"max_new_tokens":40,"json_schema":"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"maxItems\":3}"}}`)
	require.Equal(t, 200, code, text)
	var native struct{ Text string }
	require.NoError(t, json.Unmarshal([]byte(text), &native))
	assert.True(t, json.Valid([]byte(native.Text)), native.Text)
	f := talk(t, url, `"temperature":1,"seed":4,"max_tokens":60,"response_format":{"type":"json_object"}`)
	assert.True(t, strings.HasPrefix(strings.TrimSpace(*f.Choices[0].Message.Content), "{"))
}

const weather = `"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string","maxLength":6},"unit":{"type":"string","enum":["celsius","fahrenheit"]},"days":{"type":"integer"}},"required":["city","days"]}}},{"type":"function","function":{"name":"stop_all"}}]`

// TestRequired: a call that is required comes, with the arguments that its tool
// takes.
func TestRequired(t *testing.T) {
	s, url := start(t, Options{})
	id, ok := s.tok.AddedID(closeThink)
	require.True(t, ok)
	short := fmt.Sprintf(`%s,"logit_bias":{"%d":100}`, weather, id) // thoughts that a model begins with end at once
	for seed := range 4 {
		f := talk(t, url, fmt.Sprintf(`%s,"tool_choice":{"type":"function","function":{"name":"get_weather"}},"temperature":1,"seed":%d,"max_tokens":200`, short, seed))
		require.Equal(t, "tool_calls", f.Choices[0].Reason, "%+v", f)
		calls := f.Choices[0].Message.Calls
		require.Len(t, calls, 1)
		assert.Equal(t, "get_weather", calls[0].Function.Name)
		var args struct {
			City *string
			Unit string
			Days *int
		}
		dec := json.NewDecoder(strings.NewReader(calls[0].Function.Arguments))
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(&args), calls[0].Function.Arguments)
		assert.NotNil(t, args.City)
		assert.NotNil(t, args.Days)
		assert.Contains(t, []string{"", "celsius", "fahrenheit"}, args.Unit)
		f = talk(t, url, fmt.Sprintf(`%s,"tool_choice":"required","parallel_tool_calls":false,"temperature":1,"seed":%d,"max_tokens":200`, short, seed))
		require.Len(t, f.Choices[0].Message.Calls, 1)
		assert.Contains(t, []string{"get_weather", "stop_all"}, f.Choices[0].Message.Calls[0].Function.Name)
	}
}

// TestThoughtIsFree: reasoning is not held to the form, and does not end the answer.
func TestThoughtIsFree(t *testing.T) {
	s, _ := start(t, Options{})
	e, err := formatOf([]byte(personSchema))
	require.NoError(t, err)
	first := func(text string) int { return s.tok.EncodeOrdinary(text)[0] }
	end := s.model.Config().EOS[0]
	open, ok := s.tok.AddedID(openThink)
	require.True(t, ok)
	closing, ok := s.tok.AddedID(closeThink)
	require.True(t, ok)

	f := s.form(e, "x<think>", true)
	assert.True(t, allowed(f, first("a")))
	assert.False(t, allowed(f, end))
	assert.False(t, f.take(first("a")))
	assert.True(t, allowed(f, closing))
	assert.False(t, f.take(closing))
	assert.False(t, allowed(f, first("a")))
	assert.True(t, allowed(f, first("{")))

	f = s.form(e, "x", true)
	assert.True(t, allowed(f, open))
	assert.True(t, allowed(f, first("{")))
	assert.False(t, allowed(f, first("a")))
	f.take(first("\n"))
	assert.True(t, allowed(f, open), "a line may stand in front")
	f.take(open)
	assert.True(t, allowed(f, first("a")))

	f = s.form(e, "x</think>", true)
	assert.False(t, allowed(f, open))
	f = s.form(e, "x<think>", true)
	for _, c := range "</think" { // in letters
		f.take(first(string(c)))
	}
	assert.True(t, allowed(f, first(">")))
	f.take(first(">"))
	assert.True(t, allowed(f, first("{")))
	assert.False(t, allowed(f, first("a")))
}

// TestFormsRefused: what cannot be kept is refused by name.
func TestFormsRefused(t *testing.T) {
	_, url := start(t, Options{})
	for more, says := range map[string]string{
		`"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"string","pattern":"a+"}}}`: `pattern`,
		`"response_format":{"type":"json_schema"}`:                             "needs a schema",
		`"response_format":{"type":"grammar"}`:                                 "text, json_object or json_schema",
		`"response_format":7`:                                                  "must be an object",
		`"tool_choice":"required"`:                                             "without tools",
		`"tool_choice":"always"`:                                               "auto, none, required",
		`"tool_choice":{"type":"function","function":{"name":"x"}},` + weather: `no tool is called \"x\"`,
		`"tool_choice":"required","tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string","pattern":"a"}}}}}]`: "pattern",
	} {
		code, text := post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"}],"max_tokens":4,`+more+`}`)
		assert.Equal(t, 400, code, more)
		assert.Contains(t, text, says, more)
	}
}

// allowed reports whether a token may come next.
func allowed(f *form, id int) bool { return f.allows(id, f.g.Mask(f.st, f.w)) }
