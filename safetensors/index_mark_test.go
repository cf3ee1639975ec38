package safetensors

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestIndexThatIsNotJSON: a download is incomplete only where an index ends too
// early.
func TestIndexThatIsNotJSON(t *testing.T) {
	const whole = `{"metadata": {"total_size": 4}, "weight_map": {"a": "model.safetensors"}}`
	for name, test := range map[string]struct{ text, reason, advice string }{
		"cut":              {whole[:40], "not JSON", "download is incomplete"},
		"empty":            {"", "not JSON", "download is incomplete"},
		"byte order mark":  {"\xef\xbb\xbf" + whole, "byte order mark", "without a byte order mark"},
		"a comma too many": {whole[:len(whole)-2] + ",}}", "not JSON", "edited or damaged"},
		"single quotes":    {"{'weight_map': {}}", "not JSON", "edited or damaged"},
	} {
		_, err := parseIndex([]byte(test.text), IndexName)
		var e *Error
		require.ErrorAs(t, err, &e, name)
		assert.Equal(t, ErrIndex, e.Kind, name)
		assert.Contains(t, e.Reason, test.reason, name)
		assert.Contains(t, e.Advice, test.advice, name)
	}
}
