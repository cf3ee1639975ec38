package corpus

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDocuments: always the same text, enough of it, no piece empty.
func TestDocuments(t *testing.T) {
	docs := Documents()
	require.Equal(t, docs, Documents())
	all := strings.Join(docs, "\n")
	assert.Greater(t, len(all), 40_000)
	assert.True(t, utf8.ValidString(all))
	assert.NotContains(t, all, "%!", "a verb without its value")
	for i, d := range docs {
		assert.Greater(t, len(d), 100, "piece %d", i)
	}
}
