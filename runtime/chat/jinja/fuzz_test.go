package jinja_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/runtime/chat/jinja"
)

// No template brings the engine down, and provenance covers the text exactly.
func FuzzTemplate(f *testing.F) {
	data, err := os.ReadFile("testdata/golden.json")
	require.NoError(f, err)
	var seeds map[string]*string
	require.NoError(f, json.Unmarshal(data, &seeds))
	for source := range seeds {
		f.Add(source)
	}
	for _, what := range []string{`{{ a.x }}`, `{{ a.x == a.y | tojson }}`, `{{ a.x ~ a.y | sort | unique }}`, `{% for c in a.x %}{{ loop.changed(c) }}{% endfor %}`} {
		f.Add(`{% set a = namespace(x=[1], y=(1,)) %}{% for i in range(40) %}{% set a.x = [a.x, a.x] %}{% set a.y = (a.y, a.y) %}{% endfor %}` + what)
	}
	vars := variables(f)
	defer jinja.SetLimits(50_000, 1<<20)()
	f.Fuzz(func(t *testing.T, source string) {
		var tmpl *jinja.Template
		var text jinja.Text
		var err error
		testkit.AllocatesWithin(t, len(source), 20_000, 64<<20, func() {
			if tmpl, err = jinja.Parse(source); err == nil {
				text, err = tmpl.Render(context.Background(), vars, time.Time{})
			}
		})
		if err != nil {
			return
		}
		for i := range text.String() {
			_ = text.Foreign(i)
		}
		again, err := tmpl.Render(context.Background(), vars, time.Time{})
		require.NoError(t, err)
		require.Equal(t, text, again)
	})
}

// Templates that want everything meet an error, soon and in little memory.
func TestBounds(t *testing.T) {
	defer jinja.SetLimits(100_000, 8<<20)()
	deep := strings.Repeat
	for name, source := range map[string]string{
		"loops":        `{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}`,
		"range":        `{{ range(99999999999) | length }}`,
		"recursion":    `{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`,
		"tree":         `{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}`,
		"doubling":     `{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}`,
		"replacing":    `{% set ns = namespace(s='xx') %}{% for i in range(99) %}{% set ns.s = ns.s | replace('x', 'xxxx') %}{% endfor %}`,
		"joining":      `{% set s = 'x' * 60000000 %}{{ [s, s, s] | join(s) }}`,
		"repeating":    `{{ 'x' * 99999999999 }}`,
		"lists":        `{{ ([1] * 9999999) * 9999999 }}`,
		"power":        `{{ 9 ** 9999999 }}`,
		"width":        `{{ 'x'.ljust(999999999) }}`,
		"parentheses":  `{{ ` + deep("(", 100000) + `1` + deep(")", 100000) + ` }}`,
		"brackets":     `{{ ` + deep("[", 100000) + deep("]", 100000) + ` }}`,
		"minus":        `{{ ` + deep("-", 100000) + `1 }}`,
		"not":          `{{ ` + deep("not ", 100000) + `1 }}`,
		"else":         `{{ ` + deep("1 if 0 else ", 100000) + `1 }}`,
		"tags":         deep(`{% if 1 %}`, 100000),
		"unclosed":     deep(`{{ {`, 1000),
		"self":         `{% set ns = namespace() %}{% set ns.a = [ns] %}{% for i in range(300) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a | tojson }}`,
		"output":       `{% set s = 'x' * 1000000 %}{% for i in range(9999) %}{{ s }}{% endfor %}`,
		"include":      `{% include '/etc/passwd' %}`,
		"import":       `{% import 'x' as y %}`,
		"extends":      `{% extends 'x' %}`,
		"private name": `{{ ''.__class__.__mro__ }}`,
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := jinja.Parse(source)
			if err == nil {
				_, err = tmpl.Render(context.Background(), nil, time.Time{})
			}
			require.Error(t, err)
		})
	}
}

func TestProvenance(t *testing.T) {
	for source, want := range map[string]string{ // * stands under bytes that came from the variable
		`<{{ v }}>`:                                  " ***** ",
		`{{ v[1:3] ~ '|' ~ v | upper }}`:             "** *****",
		`{{ v.replace('b', '<>') }}`:                 "*  ***",
		`{{ '<%s>' % v }}`:                           " ***** ",
		`{{ [v, v] | join('+') }}`:                   "***** *****",
		`{{ v | tojson }}{{ [v] }}`:                  "****************",
		`{% set s %}[{{ v }}]{% endset %}{{ s }}`:    " ***** ",
		`{% for c in v %}{{ c }},{% endfor %}`:       "* * * * * ",
		`{{ v.split('c') | first }}{{ v | length }}`: "** ",
		`{{ '{}/{}'.format('x', v) }}`:               "  *****",
	} {
		tmpl, err := jinja.Parse(source)
		require.NoError(t, err, source)
		text, err := tmpl.Render(context.Background(), map[string]any{"v": jinja.Foreign("abcde")}, time.Time{})
		require.NoError(t, err, source)
		got := ""
		for i := range text.String() {
			got += map[bool]string{true: "*", false: " "}[text.Foreign(i)]
		}
		require.Equal(t, want, got, "%s gives %s", source, text)
	}
}
