package recipe

import "strings"

// packed is many texts that are much alike. Strings holds each line once. A
// text is [base, word, word…]: a word of 0 or more is a line, and -(1+n) says
// that the next word's number of lines of the text base follow, from its line n
// on. Base is smaller than the text's own number; -1: none.
type packed struct {
	Strings []string `json:"strings"`
	Texts   [][]int  `json:"texts"`

	known  map[string]int   // strings
	same   map[string]int   // whole texts
	places []map[int][]int  // of each text: where a line is
	plain  [][]int          // lines of each text
	recent map[string][]int // the last texts of a kind
}

func newPacked() *packed {
	return &packed{known: map[string]int{}, same: map[string]int{}, recent: map[string][]int{}}
}

// bases is how many earlier texts of its kind a text is compared with.
const bases = 6

// text is the number of a string.
func (p *packed) text(s string) int {
	n, ok := p.known[s]
	if !ok {
		n = len(p.Strings)
		p.known[s] = n
		p.Strings = append(p.Strings, s)
	}
	return n
}

// lines is the number of a text of several lines.
func (p *packed) lines(kind, s string) int {
	if n, ok := p.same[s]; ok {
		return n
	}
	var whole []int
	for _, line := range strings.Split(s, "\n") {
		whole = append(whole, p.text(line))
	}
	best := append([]int{-1}, whole...)
	for _, n := range p.recent[kind] {
		if words := changes(p.plain[n], p.places[n], whole); 1+len(words) < len(best) {
			best = append([]int{n}, words...)
		}
	}
	n := len(p.Texts)
	p.Texts = append(p.Texts, best)
	at := make(map[int][]int, len(whole))
	for i, line := range whole {
		at[line] = append(at[line], i)
	}
	p.plain, p.places, p.same[s] = append(p.plain, whole), append(p.places, at), n
	list := append(p.recent[kind], n)
	p.recent[kind] = list[max(0, len(list)-bases):]
	return n
}

// changes writes text as lines of its own and runs of lines of base, in which
// at says where a line is.
func changes(base []int, at map[int][]int, text []int) []int {
	var out []int
	for i := 0; i < len(text); {
		from, n := 0, 0
		for _, j := range at[text[i]] {
			k := 1
			for i+k < len(text) && j+k < len(base) && base[j+k] == text[i+k] {
				k++
			}
			if k > n {
				from, n = j, k
			}
		}
		if n < 3 {
			out = append(out, text[i])
			i++
			continue
		}
		out = append(out, -1-from, n)
		i += n
	}
	return out
}
