package quant

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/internal/progress"
)

// Mixed says how a plan came to give some units more than its scheme: the points
// between which it was chosen, each with one unit lifted beside those before it.
type Mixed struct {
	Points   []MixPoint `json:"points"`
	Chosen   int        `json:"chosen"`
	Measured float64    `json:"measured"` // KL of the chosen point, of all its weights together; nats per token
	Text     string     `json:"text"`     // what was measured on
}

// MixPoint is a size, the KL expected at it, and what was lifted last.
type MixPoint struct {
	Bytes  int64   `json:"bytes"` // of the result
	KL     float64 `json:"kl"`
	Unit   string  `json:"unit,omitempty"`
	Scheme string  `json:"scheme,omitempty"`
}

// mixRows is how many points the table for a person has.
const mixRows = 16

// String is the table of points: the first, the last, those around the choice and
// some between.
func (m *Mixed) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %-10s %-10s %s\n", "result", "KL", "by")
	n := len(m.Points)
	step := max(1, (n+mixRows-1)/mixRows)
	for i, p := range m.Points {
		if i != m.Chosen && i != n-1 && i%step != 0 {
			continue
		}
		by := "the scheme alone"
		if p.Unit != "" {
			by = p.Unit + " in " + p.Scheme
		}
		mark := " "
		if i == m.Chosen {
			mark = "*"
		}
		fmt.Fprintf(&b, "%s %-10s %-10.3g %s\n", mark, progress.Bytes(p.Bytes), p.KL, by)
	}
	return b.String()
}
