package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestPageByKeyboard: what is wider than a phone can be scrolled by keys.
func TestPageByKeyboard(t *testing.T) {
	c := &Comparison{Cases: []Case{{"new.json 1", measured(100, 10, 50), measured(240, 8, 60)}, {strings.Repeat("long", 30), measured(90, 12, 50), measured(200, 9, 60)}},
		Steps: []StepGain{{"engine", "+57.8%"}}}
	path := filepath.Join(t.TempDir(), "page.html")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, c.WriteHTML(f, "Comparison with "+strings.Repeat("base", 30)))
	require.NoError(t, f.Close())
	p := testkit.OpenPage(t, path)
	for _, v := range testkit.Views {
		p.View(v.Width, v.Height, v.Scheme)
		assert.Len(t, p.Walk(), 3, "three tables")
	}
}
