package recipe

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestPageByKeyboard: Tab goes through the page in its order, focus is seen, keys
// do what clicks do, in both colours and at the width of a phone.
func TestPageByKeyboard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.html")
	q := Query{Model: preset(t, "glm-4.5-air", "", ""), Release: release(t, "sglang"), Hardware: machines(t, "a100-80g:4"), MTP: AutoMTP, MaxModelLen: 32768}
	require.NoError(t, os.WriteFile(path, []byte(pageOf(t, q)), 0o600))
	p := testkit.OpenPage(t, path)
	for _, v := range testkit.Views {
		p.View(v.Width, v.Height, v.Scheme)
		stops := p.Walk()
		assert.Greater(t, len(stops), len(q.choices())+5, "choices, forms, two copies, texts and the table")
	}
	var before, after string
	p.Eval(`document.querySelector('input[name="goal"]:checked').focus(), document.querySelector("#ask").textContent`, &before)
	p.Press("ArrowRight")
	p.Eval(`document.querySelector("#ask").textContent`, &after)
	assert.NotEqual(t, before, after, "another goal is another command")
}
