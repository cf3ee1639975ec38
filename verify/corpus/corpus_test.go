package corpus

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	calibration "github.com/glmconv/glmconv/calib/corpus"
)

// TestApart: no run of 24 letters of the text that is judged with is in the text
// that is calibrated with, markup of conversations aside.
func TestApart(t *testing.T) {
	const run = 24
	seen := map[string]bool{}
	each := func(docs []string, fn func(piece string)) {
		for _, d := range docs {
			r := []rune(d)
			for i := 0; i+run <= len(r); i++ {
				if s := string(r[i : i+run]); !strings.Contains(s, "<|") && !strings.Contains(s, "|>") {
					fn(s)
				}
			}
		}
	}
	each(calibration.Documents(), func(s string) { seen[s] = true })
	each(Documents(), func(s string) { assert.False(t, seen[s], "%q is in both", s) })
}
