package grammar

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/runtime/chat"
)

func compile(t require.TestingT, schema string) *Grammar {
	v, err := chat.ParseJSON([]byte(schema))
	require.NoError(t, err, schema)
	e, err := Schema(v)
	require.NoError(t, err, schema)
	return New(e)
}

func accepts(g *Grammar, text string) bool {
	s := g.Bytes(g.Start(), text)
	return s != nil && s.Done()
}

// TestSchemas: what a schema takes and what it does not.
func TestSchemas(t *testing.T) {
	for name, c := range map[string]struct {
		schema   string
		yes, not []string
	}{
		"object in order": {`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"required":["a"],"additionalProperties":false}`,
			[]string{`{"a":"x"}`, `{"a": "x", "b": -12}`, "{\n  \"a\":\"\",\n  \"b\":0\n}"}, []string{`{}`, `{"b":1}`, `{"b":1,"a":"x"}`, `{"a":1}`, `{"a":"x","c":1}`, `{"a":"x",}`, `{"a":"x"`, `{"a":"x","b":01}`}},
		"all optional":    {`{"type":"object","properties":{"a":{},"b":{}}}`, []string{`{}`, `{"a":[]}`, `{"b":{"c":null}}`, `{"a":1,"b":2}`}, []string{`{,}`, `{"a":1 "b":2}`, `{"b":1,"a":1}`}},
		"middle optional": {`{"properties":{"a":{"type":"null"},"b":{"type":"null"},"c":{"type":"null"}},"required":["a","c"],"type":"object"}`, []string{`{"a":null,"c":null}`, `{"a":null,"b":null,"c":null}`}, []string{`{"a":null}`, `{"a":null,"b":null}`}},
		"others":          {`{"type":"object","additionalProperties":{"type":"boolean"}}`, []string{`{}`, `{"x":true,"y":false}`}, []string{`{"x":1}`}},
		"required others": {`{"type":"object","required":["k"]}`, []string{`{"k":[1]}`}, []string{`{}`}},
		"enum":            {`{"enum":["a b",1,null,{"k":[1,"<"]}]}`, []string{`"a b"`, `1`, `null`, `{"k": [1, "<"]}`}, []string{`"a"`, `2`, `{"k":[1]}`}},
		"enum of a type":  {`{"type":"string","enum":["x",1]}`, []string{`"x"`}, []string{`1`}},
		"const":           {`{"const":"ü\n"}`, []string{`"ü\n"`}, []string{`"u"`}},
		"array":           {`{"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3}`, []string{`[1]`, `[1, 2,3]`}, []string{`[]`, `[1,2,3,4]`, `["a"]`, `[1,]`}},
		"no items":        {`{"type":"array","maxItems":0}`, []string{`[]`}, []string{`[1]`}},
		"lengths":         {`{"type":"string","minLength":2,"maxLength":3}`, []string{`"ab"`, `"äöü"`, `"a\n\u00e4"`}, []string{`"a"`, `"abcd"`}},
		"types":           {`{"type":["string","null"]}`, []string{`"x"`, `null`}, []string{`1`}},
		"choice":          {`{"anyOf":[{"type":"integer"},{"type":"array","items":{"type":"integer"}}]}`, []string{`1`, `[1]`}, []string{`"x"`}},
		"pointer":         {`{"$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"]}},"$ref":"#/$defs/n"}`, []string{`{"v":1,"next":null}`, `{"v":1,"next":{"v":2,"next":null}}`}, []string{`{"v":1}`}},
		"itself":          {`{"anyOf":[{"$ref":"#"},{"type":"null"}]}`, []string{`null`}, []string{`1`}},
		"anything":        {`{}`, []string{`1`, `-1.5e+3`, `"\ud7ff"`, `[[],{}]`, `true`, "\nnull"}, []string{` 1`, `.5`, `1.`, `+1`, `nul`, `"\x"`, "\"\n\"", `"\ud800"`, "\"\xff\"", `00`}},
		"number":          {`{"type":"number"}`, []string{`0`, `-0.25`, `1e9`}, []string{`--1`, `1e`, `1234567890123456789`}},
		"dates":           {`{"type":"string","format":"date-time"}`, []string{`"2026-11-30T23:59:59Z"`}, []string{`"2026-13-01T00:00:00Z"`, `"x"`}},
		"annotations":     {`{"title":"T","description":"d","default":1,"examples":[1],"type":"integer"}`, []string{`1`}, []string{`"1"`}},
	} {
		t.Run(name, func(t *testing.T) {
			g := compile(t, c.schema)
			for _, text := range c.yes {
				assert.True(t, accepts(g, text), text)
			}
			for _, text := range c.not {
				assert.False(t, accepts(g, text), text)
			}
		})
	}
}

// TestRefused: what is not kept is named.
func TestRefused(t *testing.T) {
	for schema, keyword := range map[string]string{`{"type":"string","pattern":"a"}`: "pattern", `{"properties":{"a":{"minimum":1}}}`: "minimum", `{"oneOf":[{}]}`: "oneOf", `{"type":"object","patternProperties":{}}`: "patternProperties",
		`{"type":"text"}`: "type", `{"type":[]}`: "type", `{"enum":[]}`: "enum", `{"type":"string","enum":[1]}`: "enum", `{"anyOf":[{}],"properties":{}}`: "anyOf", `{"$ref":"http://x"}`: "$ref", `{"$ref":"#/x"}`: "$ref",
		`{"type":"string","format":"email"}`: "format", `false`: "schema", `{"required":["a"],"additionalProperties":false}`: "required", `{"required":"a"}`: "required", `{"type":"array","minItems":-1}`: "minItems",
		`{"type":"array","minItems":2,"maxItems":1}`: "minItems", `{"type":"array","uniqueItems":true}`: "uniqueItems", `{"allOf":[{},{}]}`: "allOf", `{"properties":[]}`: "properties"} {
		v, err := chat.ParseJSON([]byte(schema))
		require.NoError(t, err)
		_, err = Schema(v)
		var e *Error
		require.ErrorAs(t, err, &e, schema)
		assert.Equal(t, keyword, e.Keyword, schema)
	}
}

// letters is a vocabulary of all bytes and some longer tokens, the last an added one.
func letters() *Words {
	long := []string{`"}`, `": `, "true", "fal", "\xc3\xa4", "{\"", "]}", "<end>"}
	return NewWords(256+len(long), func(id int) (string, bool) {
		if id < 256 {
			return string([]byte{byte(id)}), false
		}
		return long[id-256], id == 255+len(long)
	})
}

// walk chooses among what may come until the text must end; after a while it
// prefers to end.
func walk(t require.TestingT, g *Grammar, w *Words, rng *rand.Rand) string {
	var b strings.Builder
	s := g.Start()
	for n := 0; ; n++ {
		if s.Final() || s.Done() && (n > 60 || rng.IntN(4) == 0) {
			return b.String()
		}
		var may []int
		mask := g.Mask(s, w)
		for id := range w.texts {
			if mask[id/64]>>(id%64)&1 == 1 {
				may = append(may, id)
			}
		}
		require.NotEmpty(t, may, "nothing may follow %q", b.String())
		id := may[rng.IntN(len(may))]
		if n > 60 { // what closes comes first
			for _, c := range []int{'"', '}', ']'} {
				if mask[c/64]>>(c%64)&1 == 1 {
					id = c
					break
				}
			}
		}
		if n > 4000 {
			require.Fail(t, "no end", b.String())
		}
		b.WriteString(w.texts[id])
		s = g.Token(s, w, id)
	}
}

// TestWalks: whatever is chosen among what may come is JSON that a validator of
// schemas takes.
func TestWalks(t *testing.T) {
	w := letters()
	for i, schema := range []string{
		`{"type":"object","properties":{"a":{"type":"array","items":{"type":["integer","boolean"]},"minItems":1},"b":{"type":"string","maxLength":4},"c":{}},"required":["a"],"additionalProperties":false}`,
		`{"$defs":{"n":{"type":"object","properties":{"v":{"enum":[1,"two",null]},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["next"]}},"$ref":"#/$defs/n"}`,
		`{"type":"array","minItems":2,"maxItems":4,"items":{"type":"string","minLength":1,"maxLength":3}}`,
		`{"type":"object","additionalProperties":{"type":["number","null"]},"required":["x","y"]}`,
		`{"type":"string","format":"date"}`, `{"type":"string","format":"uuid"}`,
	} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
		require.NoError(t, err)
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		require.NoError(t, c.AddResource("schema.json", doc))
		judge, err := c.Compile("schema.json")
		require.NoError(t, err)
		g := compile(t, schema)
		for n := range 150 {
			text := walk(t, g, w, rand.New(rand.NewPCG(uint64(n), uint64(i))))
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
			require.NoError(t, err, text)
			require.NoError(t, judge.Validate(v), text)
			require.NotContains(t, text, "<end>")
		}
	}
}

// TestForgotten: a grammar that has forgotten its states goes on as before.
func TestForgotten(t *testing.T) {
	g := New(JSONObject())
	text := `{"a":` + strings.Repeat("[", 30) + `{"k":"` + strings.Repeat("x", 50)
	s := g.Start()
	for _, c := range []byte(text) {
		s = g.byte(s, c)
		g.forget()
	}
	end := g.Bytes(s, `"}`+strings.Repeat("]", 30)+`}`)
	require.NotNil(t, end)
	assert.True(t, end.Final())
	assert.Nil(t, g.Bytes(s, `"}`+strings.Repeat("]", 31)))
}

// TestMarks: an added token is a symbol, not its text.
func TestMarks(t *testing.T) {
	w := letters()
	end := len(w.texts) - 1
	g := New(Seq(Plain(0, -1), Mark(end)))
	s := g.Bytes(g.Start(), "a <b> c")
	require.NotNil(t, s)
	assert.Nil(t, g.Bytes(g.Start(), "</"))
	assert.False(t, s.Done())
	require.NotNil(t, g.Token(s, w, end))
	assert.True(t, g.Token(s, w, end).Final())
	assert.Nil(t, g.Token(New(JSONObject()).Start(), w, end))
}

// FuzzSchema: no schema makes the compiler fail, and what it makes can begin.
func FuzzSchema(f *testing.F) {
	for _, s := range []string{`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`, `{"anyOf":[{"$ref":"#"},{"const":1}]}`, `{"$ref":"#"}`, `{"type":"array","items":{"$ref":"#"},"minItems":1}`, `{"enum":[[1,{"a":null}]]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, schema string) {
		v, err := chat.ParseJSON([]byte(schema))
		if err != nil {
			return
		}
		e, err := Schema(v)
		if err != nil {
			return
		}
		g := New(e)
		g.Mask(g.Start(), letters())
	})
}
