package bench

import (
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPage: three plots, what no run beats is filled, names are quoted, and absent
// figures are no figures.
func TestPage(t *testing.T) {
	run := func(n int, out, tpot float64) Named {
		f := empty()
		f.Concurrency, f.Completed, f.Output, f.TPOT.Median, f.TTFT.Median = n, 10, out, tpot, 5
		f.Warnings = []string{"few"}
		return Named{"<b>&\x1b[31m", f}
	}
	var b strings.Builder
	require.NoError(t, WriteHTML(&b, `a "title" <script>`, []Named{run(1, 100, 10), run(4, 300, 20), run(8, 250, 25), run(2, math.NaN(), 30)}))
	page := b.String()
	assert.Equal(t, 3, strings.Count(page, "<figure>"))
	assert.NotContains(t, page, "<script>")
	assert.NotContains(t, page, "<b>")
	assert.NotContains(t, page, "\x1b")
	assert.NotContains(t, page, "NaN")
	assert.NotContains(t, page, "http")
	first := page[strings.Index(page, "<figure>"):strings.Index(page, "</figure>")]
	assert.Equal(t, 2, strings.Count(first, `class="dot"`), "4 at once beats 8")
	assert.Equal(t, 1, strings.Count(first, `class="off"`))
	d := xml.NewDecoder(strings.NewReader(first + "</figure>"))
	for {
		_, err := d.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
	}
	b.Reset()
	require.NoError(t, WriteHTML(&b, "one", []Named{run(1, 100, 10)}))
	assert.NotContains(t, b.String(), "<svg")
}
