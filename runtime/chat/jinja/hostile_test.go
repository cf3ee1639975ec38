package jinja

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// nested holds itself twice, again and again: few objects, 2^levels leaves.
func nested(levels int, wrap func(v any) any) any {
	var v any = int64(1)
	for range levels {
		v = wrap(v)
	}
	return v
}

// collide is a text whose parts of half its length have one rolling hash.
func collide(levels int) string {
	s, t := "a", "b"
	for range levels {
		s, t = s+t, t+s
	}
	return s
}

// hostileValues are small to write down and large to work with. Every call
// makes new ones, equal to those before.
func hostileValues() map[string]any {
	const long = 32 << 20
	dict := func(v any) any {
		d := NewDict()
		d.SetText(Foreign("a"), v)
		d.SetText(Foreign("b"), v)
		return d
	}
	keyed := NewDict()
	keyed.SetText(Foreign(strings.Repeat("k", long)), int64(1))
	many := NewDict()
	for i := range 100_000 {
		many.SetText(Foreign(fmt.Sprint(i)), int64(i))
	}
	items := slices.Repeat([]any{int64(3), Foreign("x")}, 500_000)
	return map[string]any{
		"shared list":  nested(60, func(v any) any { return NewList(v, v) }),
		"shared tuple": nested(60, func(v any) any { return &List{items: []any{v, v}, tuple: true} }),
		"shared dict":  nested(60, dict),
		"deep list":    nested(1_000_000, func(v any) any { return NewList(v) }),
		"long text":    Foreign(strings.Repeat("a", long)),
		"lines":        Foreign(strings.Repeat("é \n", long/4)),
		"verbs":        Foreign(strings.Repeat("%s{}", long/4)),
		"collisions":   Foreign(strings.Repeat("a", long/2) + collide(12)),
		"long key":     keyed,
		"many entries": many,
		"many items":   NewList(items...),
		"big integer":  shrink(whole(nil, 1).Lsh(whole(nil, 1), 4000)),
	}
}

// expressions uses each filter, test, method, operator and function of the
// engine's own tables, so that a new one is tried without being named here. v
// and w are equal and hostile.
func expressions() []string {
	var out []string
	args := []string{"", "(w)", "(w, w)", "('a', w)"}
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		for _, a := range append(args, "(attribute='a')", "(9)", "('a', 'b', w)") {
			out = append(out, "v | "+name+a)
		}
		out = append(out, "[v, w] | map('"+name+"')", "[v, w] | "+name, "v | map('"+name+"', w)")
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		for _, a := range []string{"", "(w)"} {
			out = append(out, "v is "+name+a)
		}
		out = append(out, "[v, w] | select('"+name+"')", "[v, w] | select('"+name+"', w)", "[v] | rejectattr('a', '"+name+"', w)", "w is "+name+"([v, v])")
	}
	methods := slices.Collect(maps.Keys(textMethods))
	methods = slices.AppendSeq(methods, maps.Keys(dictMethods))
	methods = slices.AppendSeq(methods, maps.Keys(listMethods))
	slices.Sort(methods)
	for _, name := range slices.Compact(methods) {
		for _, a := range append(args, "([w, w])") {
			out = append(out, "v."+name+a)
		}
		out = append(out, "[v, w]."+name+"(w)", "'{}a%s'."+name+"(v)")
	}
	for _, op := range append(slices.Concat(levels...), append(comparisons, "in", "not in", "and", "or")...) {
		out = append(out, "v "+op+" w", "[v] "+op+" [w]", "v "+op+" 3", "'%s' "+op+" v", "(v, 1) "+op+" (w, 1)", "(9,) "+op+" v", "{'a': v} "+op+" {'a': w}", "w "+op+" [v, 2]")
	}
	for _, name := range slices.Sorted(maps.Keys(globals)) {
		for _, a := range []string{"()", "(v)", "(v, w)", "(*v)", "(**v)", "(a=v)", "(9999999999)", "(0, 9999999999, w)"} {
			out = append(out, name+a)
		}
	}
	return append(out, "-v", "+v", "not v", "v if w else 1", "v[w]", "v[0]", "v[-1]", "v.a", "v['a']", "v[w:w]", "v[1:]", "v[::-1]", "v[::2]", "v[0:9]", "v[:w]",
		"{v: w}", "{(v, 1): w}", "{'a': v}[w]", "[v] + [w]", "(v, w)", "loop.changed(v)", "loop.cycle(v)", "loop[v]", "ns[v]", "m(v)", "m(*v)", "m(**v)", "m(a=v)",
		"'a' in v ~ w", "'%d' % v", "'%s %s' % (v, w)", "'{} {}'.format(v, w)", "v()", "v.a()", "[] ~ v")
}

// Whatever a template does with a value that is larger than it looks, and again
// and again, ends at a bound: what is done is counted, or it does not grow with
// the value. What is not counted hangs here. Allocations are bounded with it.
func TestHostileValues(t *testing.T) {
	const (
		spent = 8 << 20
		long  = "long text, lines, verbs, collisions, long key" // each use takes milliseconds
	)
	values, copies := hostileValues(), hostileValues()
	again := NewList(slices.Repeat([]any{nil}, 100_000)...)
	statements := []string{"{{ v }}", "{% for x in v %}{{ x }}{% endfor %}", "{% for x in v recursive %}{{ loop(x) }}{% endfor %}", "{% set a, b = v %}",
		"{% filter replace('a', 'b') %}{{ v }}{% endfilter %}", "{% if v %}{% endif %}", "{% call m(v) %}{% endcall %}", "{% with a = v, b = w %}{{ a ~ b }}{% endwith %}",
		"{% set ns.a = [ns.a, v] %}{{ ns.a == ns.a }}", "{% set ns.n = ns %}{{ ns }}{{ [ns, ns] | tojson }}", "{% for a, b in v %}{% endfor %}",
		"{% for x in v if x == w %}{% endfor %}", "{% set x %}{{ v }}{% endset %}"}
	for _, e := range expressions() {
		statements = append(statements, "{% set x = "+e+" %}")
	}
	for _, s := range statements {
		tmpl, err := Parse("{% macro m(a) %}{{ caller }}{% endmacro %}{% set ns = namespace(a=1) %}{% for i in again %}" + s + "{% endfor %}")
		if err != nil {
			require.NotErrorIs(t, err, ErrLimit, s)
			require.Contains(t, err.Error(), "recursive", "%s is no template: %v", s, err)
			continue
		}
		for name, v := range values {
			steps := 600
			if strings.Contains(long, name) {
				steps = 2000
			}
			restore := SetLimits(steps, spent)
			guard := time.AfterFunc(2*time.Minute, func() { panic(fmt.Sprintf("%s with %s hangs", s, name)) })
			got := testkit.Allocated(func() {
				_, err = tmpl.Render(context.Background(), map[string]any{"v": v, "w": copies[name], "again": again}, time.Time{})
			})
			guard.Stop()
			restore()
			var e *Error
			require.ErrorAs(t, err, &e, "%s with %s", s, name) // 100,000 times are too many for anything
			require.Less(t, len(err.Error()), 8000, "%s with %s", s, name)
			require.Less(t, got, uint64(20*spent), "%s with %s: %v", s, name, err)
		}
	}
}

// doubled builds a list of 2^40 leaves, twice.
const doubled = `{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(40) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}`

// With the bounds that hold for users, too, what a template doubles ends in ErrLimit.
func TestDoubling(t *testing.T) {
	for name, rest := range map[string]string{
		"print":       `{{ ns.a }}`,
		"equal":       `{{ ns.a == ns.b }}`,
		"order":       `{{ ns.a < ns.b }}`,
		"in":          `{{ ns.a in [1, ns.b] }}`,
		"concatenate": `{{ 'x' ~ ns.a }}`,
		"percent":     `{{ '%s' % ns.a }}`,
		"format":      `{{ '{}'.format(ns.a) }}`,
		"sort":        `{{ [ns.a, ns.b] | sort }}`,
		"max":         `{{ [ns.a, ns.b] | max }}`,
		"index":       `{{ [ns.a].index(ns.b) }}`,
		"count":       `{{ [ns.a].count(ns.b) }}`,
		"key":         `{{ {(ns.a, 1): 1} }}`,
		"unique":      `{{ [(ns.a, 1)] | unique | list }}`,
		"tojson":      `{{ ns.a | tojson }}`,
		"indented":    `{{ ns.a | tojson(indent=4) }}`,
		"join":        `{{ ns.a | join }}`,
		"upper":       `{{ ns.a | upper }}`,
		"map":         `{{ [ns.a] | map('string') | list }}`,
		"select":      `{{ [ns.a] | select('eq', ns.b) | list }}`,
		"changed":     `{% for x in [ns.a, ns.b] %}{{ loop.changed(x) }}{% endfor %}`,
		"no element":  `{{ {}[ns.a] }}{{ [][(ns.a, 1)] }}{{ {}[(ns.a, 1)] }}`,
		"texts":       `{% for i in range(99) %}{% set ns.b = ns.b ~ ns.b %}{% endfor %}`,
		"repeated":    `{% for i in range(99) %}{% set ns.b = ns.b * 2 %}{% endfor %}`,
		"deep":        `{% for i in range(200) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a == [ns.a] }}`,
		"cycle":       `{% set ns.a = [ns] %}{% set ns.b = [ns.a] * 99999 %}{% for i in range(99) %}{% for x in ns.b %}{{ x }}{% endfor %}{% endfor %}`,
		"search":      `{% set s = 'a' * 30000000 %}{% for i in range(99999) %}{{ 'b' in s }}{% endfor %}`,
		"long search": `{% set s = 'a' * 30000000 %}{{ ('a' * 9999999 ~ 'b') in s }}`,
		"strip":       `{% set s = 'a' * 30000000 %}{{ s.strip(s) }}`,
		"rsplit":      `{{ ('a ' * 9999999).rsplit(' ') | length }}`,
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := Parse(doubled + rest)
			require.NoError(t, err)
			start := time.Now()
			_, err = tmpl.Render(context.Background(), nil, time.Time{})
			require.ErrorIs(t, err, ErrLimit)
			t.Logf("%v: %v", time.Since(start).Round(time.Millisecond), err)
		})
	}
}

// later is a context that ends when it was asked a number of times.
type later struct {
	context.Context
	left int
}

func (c *later) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A rendering is left in the middle of one expression, and its error says why.
func TestCancelled(t *testing.T) {
	for _, rest := range []string{`{{ ns.a }}`, `{{ ns.a == ns.b }}`, `{{ ns.a | tojson }}`, `{% for i in range(99999) %}{{ i }}{% endfor %}`, `{{ [ns.a, ns.b] | sort }}`} {
		tmpl, err := Parse(doubled + rest)
		require.NoError(t, err)
		ctx := &later{context.Background(), 20}
		_, err = tmpl.Render(ctx, nil, time.Time{})
		require.ErrorIs(t, err, context.Canceled, rest)
		require.Equal(t, -1, ctx.left, "%s went on", rest)
	}
}
