package jinja_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/chat/jinja"
)

func variables(t testing.TB) map[string]any {
	t.Helper()
	data, err := os.ReadFile("testdata/variables.json")
	require.NoError(t, err)
	v, err := chat.ParseJSON(data)
	require.NoError(t, err)
	vars := map[string]any{}
	for _, k := range v.(*chat.Object).Keys {
		vars[k] = chat.Native(v.(*chat.Object).Get(k))
	}
	return vars
}

// The expected texts come from Python's Jinja2: testdata/golden.py. A null
// means that Jinja2 refuses the template or its rendering.
func TestGoldens(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var want map[string]*string
	require.NoError(t, json.Unmarshal(data, &want))
	require.Greater(t, len(want), 90)
	vars := variables(t)
	for source, text := range want {
		t.Run(source, func(t *testing.T) {
			tmpl, err := jinja.Parse(source)
			var got jinja.Text
			if err == nil {
				got, err = tmpl.Render(context.Background(), vars, time.Time{})
			}
			if text == nil {
				var e *jinja.Error
				require.Error(t, err, "got %q", got)
				require.True(t, errors.As(err, &e) && e.Line > 0, "%v has no line", err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, *text, got.String())
		})
	}
}
