package report

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestPageByKeyboard: Tab goes through the details in their order, focus is seen,
// keys open them, and nothing in them is wider than a phone.
func TestPageByKeyboard(t *testing.T) {
	for name, r := range samples() {
		path := filepath.Join(t.TempDir(), "page.html")
		require.NoError(t, os.WriteFile(path, []byte(page4(t, r)), 0o600))
		p := testkit.OpenPage(t, path)
		for _, v := range testkit.Views {
			p.View(v.Width, v.Height, v.Scheme)
			p.Eval(`document.querySelectorAll("details").forEach(d => { d.open = false; })`, nil)
			assert.Len(t, p.Walk(), 5, "%s: the details", name)
			p.Eval(`document.querySelectorAll("details").forEach(d => { d.open = true; })`, nil)
			p.Walk()
		}
	}
}
