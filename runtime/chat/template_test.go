package chat

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func loadFamily(t testing.TB, family string) *Template {
	t.Helper()
	path := filepath.Join("testdata", family+".jinja")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	tmpl, err := New(path, string(data))
	require.NoError(t, err)
	return tmpl
}

var families = []string{"glm45", "glm45v", "glm47", "glm5", "glm52", "glm53"}

// The expected texts come from Python's Jinja2: testdata/prompts.py.
func TestGoldens(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var want map[string]*string
	require.NoError(t, json.Unmarshal(data, &want))
	data, err = os.ReadFile("testdata/cases.json")
	require.NoError(t, err)
	v, err := ParseJSON(data)
	require.NoError(t, err)
	for _, family := range families {
		tmpl := loadFamily(t, family)
		for _, c := range v.([]any) {
			c := c.(*Object)
			t.Run(family+"/"+c.Text("name"), func(t *testing.T) {
				req := Request{NoGeneration: c.Get("add_generation_prompt") == false}
				for _, m := range c.Get("messages").([]any) {
					req.Messages = append(req.Messages, m.(*Object))
				}
				if tools, ok := c.Get("tools").([]any); ok {
					for _, tool := range tools {
						req.Tools = append(req.Tools, tool.(*Object))
					}
				}
				if on, ok := c.Get("enable_thinking").(bool); ok {
					req.Thinking = ThinkingOff
					if on {
						req.Thinking = ThinkingOn
					}
				}
				if extra, ok := c.Get("extra").(*Object); ok {
					req.Extra = extra.Values
				}
				text, ok := want[family+"/"+c.Text("name")]
				require.True(t, ok)
				p, err := tmpl.Render(context.Background(), req)
				if text == nil { // Jinja2 refuses it
					require.ErrorIs(t, err, ErrTemplate)
					return
				}
				require.NoError(t, err)
				require.Equal(t, *text, p.Text())
			})
		}
	}
}

func TestHostileTemplates(t *testing.T) {
	for name, source := range map[string]string{
		"include":    `{% include '/etc/passwd' %}`,
		"import":     `{% import 'x' as y %}`,
		"extends":    `{% extends 'x' %}`,
		"endless":    `{% for a in range(999999) %}{% for b in range(999999) %}{% endfor %}{% endfor %}`,
		"huge range": `{{ range(99999999999) | length }}`,
		"recursion":  `{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}`,
		"unclosed":   `{% if `,
		"raise":      `{{ raise_exception('no system turn') }}`,
		"filter":     `{{ 1 | nosuch }}`,
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := New(name, source)
			if err == nil {
				_, err = tmpl.Render(context.Background(), Request{Messages: []*Object{Message("user", "x")}})
			}
			require.Error(t, err)
			require.False(t, strings.Contains(err.Error(), "root:"))
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(dir)
	require.ErrorIs(t, err, ErrNoTemplate)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer_config.json"),
		[]byte(`{"chat_template":[{"name":"default","template":"A{{ messages[0].content }}"}]}`), 0o600))
	tmpl, err := Load(dir)
	require.NoError(t, err)
	p, err := tmpl.Render(context.Background(), Request{Messages: []*Object{Message("user", "b/<c>")}})
	require.NoError(t, err)
	require.Equal(t, "Ab/<c>", p.Text())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer_config.json"),
		[]byte(`{"eos_token":{"content":"</s>"},"chat_template":"{{ bos_token + messages[0].content + eos_token }}"}`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "special_tokens_map.json"), []byte(`{"bos_token":"<s>","eos_token":"other"}`), 0o600))
	tmpl, err = Load(dir)
	require.NoError(t, err)
	p, err = tmpl.Render(context.Background(), Request{Messages: []*Object{Message("user", "b")}})
	require.NoError(t, err)
	require.Equal(t, "<s>b</s>", p.Text())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte("J"), 0o600))
	tmpl, err = Load(dir)
	require.NoError(t, err)
	p, err = tmpl.Render(context.Background(), Request{})
	require.NoError(t, err)
	require.Equal(t, "J", p.Text())
}

func TestPythonFloats(t *testing.T) {
	for f, want := range map[float64]string{1: "1.0", 0.1: "0.1", 1e16: "1e+16", 1e15: "1000000000000000.0", 1e-5: "1e-05", 1e-4: "0.0001",
		-2.5e300: "-2.5e+300", 0: "0.0"} {
		require.Equal(t, want, Dumps(f))
	}
}
