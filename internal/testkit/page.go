package testkit

import "strings"

// PageText puts together text n of the page of `glmconv recipe --html` from its
// lines and texts, as the page's own script does: a text is the number of an
// earlier one, -1 for none, and then numbers of lines, or -1-n and a count for
// lines of the earlier text from its line n on.
func PageText(lines []string, texts [][]int, n int) string {
	var of func(n int) []int
	of = func(n int) (out []int) {
		t := texts[n]
		var base []int
		if t[0] >= 0 {
			base = of(t[0])
		}
		for i := 1; i < len(t); i++ {
			if t[i] >= 0 {
				out = append(out, t[i])
				continue
			}
			from := -1 - t[i]
			i++
			out = append(out, base[from:from+t[i]]...)
		}
		return out
	}
	var words []string
	for _, l := range of(n) {
		words = append(words, lines[l])
	}
	return strings.Join(words, "\n")
}
