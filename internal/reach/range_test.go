package reach

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/source"
)

// TestContentRange: what is no range with a length or "*" is no answer.
func TestContentRange(t *testing.T) {
	for _, tc := range []struct {
		name, header string
		start, total int64
		ok           bool
	}{
		{"a range", "bytes 0-99/1000", 0, 1000, true},
		{"not from the beginning", "bytes 900-999/1000", 900, 1000, true},
		{"of unknown length", "bytes 5-9/*", 5, -1, true},
		{"none", "", 0, -1, false},
		{"nothing of it", "bytes */5", 0, -1, false},
		{"other units", "items 0-9/10", 0, -1, false},
		{"a negative length", "bytes 0-/-9", 0, -1, false},
		{"a length with a sign", "bytes 0-9/+10", 0, -1, false},
		{"behind the end", "bytes 10-19/10", 0, -1, false},
		{"beyond 63 bits", "bytes 0-9/9223372036854775808", 0, -1, false},
		{"a length that is no number", "bytes 0-9/ten", 0, -1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start, total, ok := contentRange(tc.header)
			assert.Equal(t, tc.start, start)
			assert.Equal(t, tc.total, total)
			assert.Equal(t, tc.ok, ok)
		})
	}
}

// TestShardWithoutLength: a shard of which a server does not say how long it is
// is refused, and not taken for an empty one.
func TestShardWithoutLength(t *testing.T) {
	for name, header := range map[string]string{"no header": "", "unknown": "bytes 0-0/*", "no number": "bytes 0-0/x", "negative": "bytes 0-0/-9"} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/m/config.json":
					_, _ = w.Write([]byte("{}"))
				case "/m/model.safetensors":
					if header != "" {
						w.Header().Set("Content-Range", header)
					}
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write([]byte("x"))
				default:
					http.NotFound(w, r)
				}
			}))
			defer srv.Close()
			_, err := Open(t.Context(), srv.URL+"/m/", quick())
			require.ErrorIs(t, err, source.ErrRefused)
			assert.ErrorContains(t, err, "how long it is")
		})
	}
}
