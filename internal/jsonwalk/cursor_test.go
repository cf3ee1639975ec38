package jsonwalk_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/jsonwalk"
)

// members walks an object and returns what a decoder would.
func members(t testing.TB, raw []byte) (map[string]json.RawMessage, bool) {
	c := jsonwalk.New(raw)
	if _, ok := c.Open(); !ok {
		return nil, false
	}
	out := map[string]json.RawMessage{}
	for c.More() {
		key, at := c.Key()
		again, ok := jsonwalk.Unquote(at.Of(raw))
		require.True(t, ok)
		require.Equal(t, key, again)
		out[key] = c.Value().Of(raw)
	}
	return out, true
}

// FuzzWalk compares a walk with encoding/json on every valid text.
func FuzzWalk(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":"b","c":[1,{"d":"]}"}],"e":{"f":"\\"}}`, `{"\"":"\\\"","\\":"\\\\"}`,
		"{\n\t\"k\" : null ,\r\n \"k2\":-1.5e3}", `{"é":"ü","é":true}`, `[1]`, `"x"`, `17`, `{"a":[[],{}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want map[string]json.RawMessage
		if !utf8.Valid(raw) || !json.Valid(raw) || json.Unmarshal(raw, &want) != nil || want == nil {
			if utf8.Valid(raw) && json.Valid(raw) {
				_, ok := members(t, raw)
				require.False(t, ok)
			}
			return
		}
		got, ok := members(t, raw)
		require.True(t, ok)
		require.Equal(t, want, got)
	})
}

// FuzzWriteIndented compares with encoding/json.
func FuzzWriteIndented(f *testing.F) {
	for _, s := range []string{
		`{}`, `[]`, `"a\\"`, `17`, `[[],{},[{}]]`, `{"a":{"b":[1,-2.5e3,null,true],"c":"x,y:{}[]\""},"d":[]}`, "[1,2]\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var compact, want, got bytes.Buffer
		if json.Compact(&compact, raw) != nil {
			return
		}
		if bytes.HasSuffix(raw, []byte("\n")) {
			compact.WriteByte('\n') // as an Encoder leaves it
		}
		require.NoError(t, json.Indent(&want, compact.Bytes(), "", "  "))
		require.NoError(t, jsonwalk.WriteIndented(&got, compact.Bytes()))
		require.Equal(t, want.String(), got.String())
	})
}
