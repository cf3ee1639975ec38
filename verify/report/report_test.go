package report

import (
	stdbytes "bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/verify"
)

func render(t require.TestingT, fn func(w *stdbytes.Buffer) error) string {
	var b stdbytes.Buffer
	require.NoError(t, fn(&b))
	return b.String()
}

func page4(t require.TestingT, r *verify.Result) string {
	return render(t, func(w *stdbytes.Buffer) error { return HTML(w, r) })
}

func json4(t require.TestingT, r *verify.Result) string {
	return render(t, func(w *stdbytes.Buffer) error { return JSON(w, r) })
}

func junit4(t require.TestingT, r *verify.Result) string {
	return render(t, func(w *stdbytes.Buffer) error { return JUnit(w, r) })
}

func compiled(t require.TestingT) *jsonschema.Schema {
	doc, err := jsonschema.UnmarshalJSON(stdbytes.NewReader(Schema()))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("verify.json", doc))
	s, err := c.Compile("verify.json")
	require.NoError(t, err)
	return s
}

func valid(t require.TestingT, s *jsonschema.Schema, text string) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	require.NoError(t, err, text)
	require.NoError(t, s.Validate(doc))
}

func TestTextOfPass(t *testing.T) {
	text := Text(passing())
	assert.True(t, strings.HasPrefix(text, "PASS  mean KL 0.0024 nats/token (95 % bound 0.0028 ≤ 0.01) on 2,048 tokens\n\n"), text)
	for _, want := range []string{"18,329 source tensors: 1,288 copied bit for bit, 17,041 quantised, 0 lost", "own rounding of the source: max 3e-7", "top-1 same 98.6 %", "worst 45 (error", "0.81 0.64 0.50 (source 0.82 0.64 0.51) · length 2.77 (2.79)", "9m03s · 320 GB read · peak 940 MB"} {
		assert.Contains(t, text, want)
	}
	assert.NotContains(t, text, "✗")
}

func TestTextOfFail(t *testing.T) {
	text := Text(failing())
	assert.True(t, strings.HasPrefix(text, "FAIL  mean KL 0.31 nats/token (95 % bound 0.36 > 0.01); 3 checks failed\n\n"), text)
	for _, want := range []string{"✗ exact      model.layers.12.mlp.gate.e_score_correction_bias", "✗ oracle", "✗ layers", "cause      the router bias of layer 12 lost precision"} {
		assert.Contains(t, text, want)
	}
}

func TestTextOfUndecided(t *testing.T) {
	text := Text(flat())
	assert.True(t, strings.HasPrefix(text, "UNDECIDED  "), text)
	assert.Contains(t, text, "too flat")
}

func TestSkippedForward(t *testing.T) {
	r := passing()
	r.Tokens, r.KL, r.Layers, r.MTP, r.Logits.PerToken, r.Logits.Histogram = 0, verify.KL{}, nil, nil, nil, nil
	assert.Contains(t, Text(r), "PASS  exact checks and weight errors only")
	assert.Contains(t, page4(t, r), "the forward pass was skipped")
	assert.NotContains(t, page4(t, r), "answers like", "nothing was asked")
	assert.Contains(t, junit4(t, r), `skipped="4"`)
}

func TestManyFailuresAreCut(t *testing.T) {
	r := failing()
	for range 100 {
		r.Failed = append(r.Failed, verify.Failed{Check: "exact", Where: "x", Detail: "lost"})
	}
	assert.Contains(t, Text(r), "and 96 more")
	assert.Contains(t, page4(t, r), "and 73 more")
	assert.Contains(t, junit4(t, r), "lost")
}

func TestUnknownChecksAreShown(t *testing.T) {
	r := failing()
	r.Failed = []verify.Failed{{Check: "tokenizer", Where: "tokenizer.json", Detail: "differs"}}
	assert.Contains(t, Text(r), "✗ tokenizer  tokenizer.json: differs")
	assert.Contains(t, page4(t, r), "tokenizer.json")
	assert.Contains(t, junit4(t, r), `<failure message="tokenizer.json: differs" type="tokenizer">`)
}

func TestJUnit(t *testing.T) {
	for name, want := range map[string][3]int{"pass": {0, 0, 0}, "fail": {3, 0, 0}, "undecided": {0, 1, 1}} {
		var got junitSuites
		text := junit4(t, samples()[name])
		require.NoError(t, xml.Unmarshal([]byte(text), &got), text)
		s := got.Suite
		if name == "fail" {
			assert.GreaterOrEqual(t, s.Failures, want[0])
		} else {
			assert.Equal(t, want[0], s.Failures, text)
		}
		assert.Equal(t, want[1], s.Errors, text)
		assert.Equal(t, want[2], s.Skipped, text)
		assert.Len(t, s.Cases, s.Tests)
		assert.Equal(t, got.Tests, s.Tests)
	}
	// No verdict but pass may look like one.
	r := passing()
	r.Verdict = verify.Fail
	assert.Contains(t, junit4(t, r), "<error")
}

func TestJSONFollowsSchema(t *testing.T) {
	s := compiled(t)
	for name, r := range samples() {
		text := json4(t, r)
		valid(t, s, text)
		if name == "pass" {
			var back verify.Result
			require.NoError(t, json.Unmarshal([]byte(text), &back))
			assert.True(t, reflect.DeepEqual(*r, back), "what is finite comes back unchanged")
		}
	}
	valid(t, s, json4(t, &verify.Result{Schema: verify.Schema, Verdict: verify.Undecided}))
	r := passing()
	r.Verdict = "maybe"
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(json4(t, r)))
	require.NoError(t, err)
	assert.Error(t, s.Validate(doc), "the schema refuses what is none of the verdicts")
}

// Two checkpoints that were not compared are a failure in every form.
func TestRefused(t *testing.T) {
	r := verify.Refused("a", "b", verify.Refusal{Where: "b", Reason: "b: is no result of a", Hint: "give the checkpoint that the result was made of", Exit: 65})
	assert.True(t, strings.HasPrefix(Text(r), "FAIL"), Text(r))
	valid(t, compiled(t), json4(t, r))
	for _, write := range []func(io.Writer, *verify.Result) error{JSON, JUnit, HTML} {
		var b strings.Builder
		require.NoError(t, write(&b, r))
		assert.Contains(t, b.String(), "is no result of a")
	}
}

// Every field of the result stands in the schema, and the reverse.
func TestSchemaIsComplete(t *testing.T) {
	var doc map[string]any
	require.NoError(t, json.Unmarshal(Schema(), &doc))
	defs := doc["$defs"].(map[string]any)
	var walk func(path string, schema map[string]any, typ reflect.Type)
	walk = func(path string, schema map[string]any, typ reflect.Type) {
		if ref, ok := schema["$ref"].(string); ok {
			schema = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		}
		if one, ok := schema["oneOf"].([]any); ok {
			schema = one[1].(map[string]any)
		}
		switch typ.Kind() {
		case reflect.Pointer:
			walk(path, schema, typ.Elem())
		case reflect.Slice:
			require.Equal(t, "array", schema["type"], path)
			walk(path+"[]", schema["items"].(map[string]any), typ.Elem())
		case reflect.Struct:
			require.Equal(t, "object", schema["type"], path)
			props := schema["properties"].(map[string]any)
			seen := map[string]bool{}
			for _, f := range reflect.VisibleFields(typ) {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if f.Anonymous && name == "" || name == "-" || !f.IsExported() {
					continue
				}
				require.NotEmpty(t, name, "%s.%s has no JSON name", path, f.Name)
				seen[name] = true
				sub, ok := props[name].(map[string]any)
				if assert.True(t, ok, "the schema lacks %s.%s", path, name) {
					walk(path+"."+name, sub, f.Type)
				}
			}
			for name := range props {
				assert.True(t, seen[name], "the schema invents %s.%s", path, name)
			}
		default:
		}
	}
	walk("", doc, reflect.TypeFor[verify.Result]())
}

var badVerb = regexp.MustCompile(`%![a-z]\([a-z0-9]+=`)

// Any result, NaN and infinities included, gives valid documents.
func TestAnyResult(t *testing.T) {
	s := compiled(t)
	rapid.Check(t, func(t *rapid.T) {
		r := random(t)
		text := json4(t, r)
		valid(t, s, text)
		page := page4(t, r)
		assert.False(t, strings.Contains(page, "ZgotmplZ"), "the template refused a value")
		assert.False(t, badVerb.MatchString(page), "a format verb does not fit")
		var suites junitSuites
		require.NoError(t, xml.Unmarshal([]byte(junit4(t, r)), &suites))
		if r.Verdict != verify.Pass {
			assert.Positive(t, suites.Failures+suites.Errors)
		}
		for _, c := range Text(r) {
			assert.True(t, c == '\n' || c >= ' ' && c != 0x7f)
		}
	})
}

func TestHTMLIsSelfContained(t *testing.T) {
	outside := regexp.MustCompile(`(?i)(src|href)\s*=|url\(|@import|https?://[^ "<]*`)
	for name, r := range samples() {
		page := page4(t, r)
		assert.Empty(t, outside.FindAllString(page, -1), name)
		assert.Contains(t, page, "prefers-color-scheme: dark")
		m := regexp.MustCompile(`(?s)<script type="application/json" id="result">(.*?)</script>`).FindStringSubmatch(page)
		require.NotNil(t, m)
		valid(t, compiled(t), m[1])
	}
}

func TestHostileNames(t *testing.T) {
	evil := `</script><script>alert(1)</script><!--"'` + "\x1b[31m\u202e"
	r := failing()
	r.Cause, r.Reason = evil, evil
	r.Identity = verify.Identity{Source: evil, Result: evil, Version: evil, Scheme: evil, Format: evil, Corpus: evil, IDsSHA256: evil}
	r.Profile.Name, r.Oracle.Worst = evil, evil
	r.Failed = []verify.Failed{{Check: evil, Where: evil, Detail: evil}}
	r.Tensors = []verify.Tensor{{Name: evil, Encoding: evil, Relative: 1}}
	page := page4(t, r)
	assert.NotContains(t, page, "<script>")
	assert.Equal(t, 1, strings.Count(page, "</script>"))
	assert.NotContains(t, page, "\x1b")
	assert.NotContains(t, Text(r), "\x1b")
	assert.NotContains(t, Text(r), "\u202e")
	var got junitSuites
	require.NoError(t, xml.Unmarshal([]byte(junit4(t, r)), &got))
	valid(t, compiled(t), json4(t, r))
}

func TestNumbers(t *testing.T) {
	for want, v := range map[string]float64{"0": 0, "n/a": math.NaN(), "∞": math.Inf(1), "3e-7": 3e-7, "0.0024": 0.0024, "1.5": 1.5, "320": 320, "0.31": 0.31, "1e6": 1e6, "20": 20, "-0.12": -0.12} {
		assert.Equal(t, want, num(v))
	}
	assert.Equal(t, "17,041", count(17041))
	assert.Equal(t, "940 MB", bytes(940e6))
	assert.Equal(t, "1h02m", duration(3725))
	assert.Equal(t, "<0.1 %", percent(1e-5))
	assert.Equal(t, "100 %", percent(1))
}

// GLMCONV_REPORT_DIR keeps the sample pages, to look at.
func TestSamples(t *testing.T) {
	dir := os.Getenv("GLMCONV_REPORT_DIR")
	if dir == "" {
		dir = t.TempDir()
	}
	for name, r := range samples() {
		page := page4(t, r)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".html"), []byte(page), 0o600))
		assert.Contains(t, page, `class="`+name+`"`)
	}
}
