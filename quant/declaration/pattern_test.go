package declaration_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/quant/declaration"
)

// recorded are answers of Python's re and fnmatch (interop/record_patterns.py):
// for each pattern the positions of the names it means.
type recorded struct {
	Names   []string
	Regexps []struct {
		Pattern       string
		Error         bool
		Match, Search []int
	}
	Globs []struct {
		Pattern string
		Match   []int
	}
}

func answers(t testing.TB) recorded {
	t.Helper()
	raw, err := os.ReadFile("testdata/patterns.json")
	require.NoError(t, err)
	var r recorded
	require.NoError(t, json.Unmarshal(raw, &r))
	require.NotEmpty(t, r.Regexps)
	return r
}

func hits(p *declaration.Pattern, names []string) []int {
	list := []int{}
	for i, n := range names {
		if p.Match(n) {
			list = append(list, i)
		}
	}
	return list
}

// unsupported are expressions that Python takes and this package refuses by
// name rather than read them differently.
var unsupported = map[string]bool{`(?a)\d`: true, `\N{DIGIT ONE}`: true}

func TestPatternsMatchAsInPython(t *testing.T) {
	r := answers(t)
	for _, c := range r.Regexps {
		t.Run(c.Pattern, func(t *testing.T) {
			for how, want := range map[declaration.Match][]int{declaration.Regexp: c.Match, declaration.Search: c.Search} {
				p, err := declaration.New(c.Pattern, how)
				if c.Error || unsupported[c.Pattern] {
					assert.Error(t, err)
					continue
				}
				require.NoError(t, err)
				assert.Equal(t, append([]int{}, want...), hits(p, r.Names), how)
				assert.NoError(t, p.Err())
			}
		})
	}
}

func TestGlobsMatchAsInPython(t *testing.T) {
	r := answers(t)
	for _, c := range r.Globs {
		t.Run(c.Pattern, func(t *testing.T) {
			p, err := declaration.New(c.Pattern, declaration.Glob)
			require.NoError(t, err)
			assert.Equal(t, append([]int{}, c.Match...), hits(p, r.Names))
		})
	}
}

func TestPlainEntries(t *testing.T) {
	const o = "model.layers.1.self_attn.o_proj"
	for name, tc := range map[string]struct {
		text string
		how  declaration.Match
		name string
		want bool
	}{
		"a whole name":             {o, declaration.Exact, o, true},
		"a parent is another name": {"model.layers.1", declaration.Exact, o, false},
		"a parent on the path":     {"model.layers.1", declaration.Path, o, true},
		"the name on the path":     {o, declaration.Path, o, true},
		"borders are dots":         {"model.layers.1", declaration.Path, "model.layers.11.mlp.gate", false},
		"a part":                   {"self_attn", declaration.Substring, o, true},
		"no part":                  {"mlp", declaration.Substring, o, false},
		"the end":                  {"self_attn.o_proj", declaration.Suffix, o, true},
		"an end within a word":     {"_proj", declaration.Suffix, o, false},
		"the whole as an end":      {o, declaration.Suffix, o, true},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := declaration.New(tc.text, tc.how)
			require.NoError(t, err)
			assert.Equal(t, tc.want, p.Match(tc.name))
		})
	}
}

// A pattern that backtracks without end is given up and matches nothing; the
// next name costs nothing any more.
func TestEndlessPatternIsGivenUp(t *testing.T) {
	p, err := declaration.Parse(`re:(?!b)(?:a|aa)+$`, declaration.Exact)
	require.NoError(t, err)
	start := time.Now()
	for range 1000 {
		assert.False(t, p.Match(strings.Repeat("a", 60)+"!"))
	}
	assert.Less(t, time.Since(start), 20*time.Second)
	require.ErrorIs(t, p.Err(), declaration.ErrTimeout)
	assert.False(t, p.Match("aa"), "given up once, given up for good")
}

// What Go's linear engine can run never ends in a timeout.
func TestFastPathHasNoEndlessPattern(t *testing.T) {
	p, err := declaration.Parse(`re:(?:a+)+$`, declaration.Exact)
	require.NoError(t, err)
	assert.False(t, p.Match(strings.Repeat("a", 5000)+"b"))
	assert.NoError(t, p.Err())
}

func TestHostilePatternsAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"nesting": strings.Repeat("(", 5000) + strings.Repeat(")", 5000),
		"length":  strings.Repeat("a", 1<<20),
		"class":   strings.Repeat("[", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := declaration.New(text, declaration.Regexp)
			assert.Error(t, err)
			if err != nil {
				assert.Less(t, len(err.Error()), 500)
			}
		})
	}
}

// A list answers as a pass over its entries would.
func TestListFindsTheFirst(t *testing.T) {
	texts := []string{"a", "b", "re:a", "re:.*b$", "ab", "re:(?!a).", "aa"}
	rapid.Check(t, func(t *rapid.T) {
		var l declaration.List
		for _, text := range rapid.SliceOf(rapid.SampledFrom(texts)).Draw(t, "entries") {
			p, err := declaration.Parse(text, declaration.Exact)
			if err != nil {
				t.Fatal(err)
			}
			l.Add(p)
		}
		name := rapid.StringMatching(`[ab]{0,3}`).Draw(t, "name")
		want := -1
		for i, p := range l.Entries {
			if p.Match(name) {
				want = i
				break
			}
		}
		_, got := l.Find(name)
		if got != want {
			t.Fatalf("found %d, first is %d", got, want)
		}
	})
}
