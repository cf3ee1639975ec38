package grammar

// Words are the tokens of a vocabulary.
type Words struct {
	texts []string
	added []bool
}

// NewWords asks for the bytes of n tokens, and whether each is an added token. One
// without bytes is never allowed.
func NewWords(n int, text func(id int) (s string, added bool)) *Words {
	w := &Words{make([]string, n), make([]bool, n)}
	for id := range n {
		w.texts[id], w.added[id] = text(id)
	}
	return w
}

// Text is what a token stands for.
func (w *Words) Text(id int) string {
	if id < 0 || id >= len(w.texts) {
		return ""
	}
	return w.texts[id]
}

// Token is the state behind a token; nil: it may not come.
func (g *Grammar) Token(s *State, w *Words, id int) *State {
	if id < 0 || id >= len(w.texts) || w.texts[id] == "" {
		return nil
	}
	if w.added[id] {
		return g.marked(s, id)
	}
	return g.Bytes(s, w.texts[id])
}

// Bytes is the state behind a text; nil: it may not come.
func (g *Grammar) Bytes(s *State, text string) *State {
	for i := 0; i < len(text) && s != nil; i++ {
		s = g.byte(s, text[i])
	}
	return s
}

// maxMasks bounds the masks that are kept.
const maxMasks = 256

// Mask has a bit for each token that may come. It must not be changed.
func (g *Grammar) Mask(s *State, w *Words) []uint64 {
	if m := g.masks[s]; m != nil {
		return m
	}
	m := make([]uint64, (len(w.texts)+63)/64)
	for id := range w.texts {
		if g.Token(s, w, id) != nil {
			m[id/64] |= 1 << (id % 64)
		}
	}
	if len(g.masks) >= maxMasks {
		clear(g.masks)
	}
	g.masks[s] = m
	return m
}
