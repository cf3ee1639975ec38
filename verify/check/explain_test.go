package check

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestEveryCodeIsExplained: the registry and the explanations have the same codes,
// and each has a cause and a way out.
func TestEveryCodeIsExplained(t *testing.T) {
	for _, c := range Codes() {
		e, ok := Explain(c.Name)
		assert.True(t, ok, c.Name)
		assert.NotEmpty(t, e.Means, c.Name)
		assert.NotEmpty(t, e.Cause, "no cause of %s", c.Name)
		assert.NotEmpty(t, e.Remedy, "no remedy of %s", c.Name)
	}
	for code := range explanations {
		assert.Contains(t, byName, code, "an explanation of a code that does not exist")
	}
	_, ok := Explain("no-such-code")
	assert.False(t, ok)
}
