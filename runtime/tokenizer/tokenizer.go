package tokenizer

// Tokenizer is a loaded tokenizer.json. It is safe for concurrent use.
type Tokenizer struct {
	ids          map[string]int32 // bytes of a vocabulary entry → id
	texts        map[int]string   // id → bytes, added tokens included
	bytes        [256]int32       // id of each single byte
	merges       map[pair]merge
	ignoreMerges bool
	added        []addedToken // longest first
	addedIDs     map[string]int
	addedFirst   [256]bool // bytes an added token may start with
	special      map[int]bool
	maxID        int
}

type addedToken struct {
	content string
	id      int
}

// VocabSize returns the number of ids that stand for something, added tokens
// included. A model's vocab_size may be larger: the remaining rows are padding.
func (t *Tokenizer) VocabSize() int { return len(t.texts) }

// MaxID returns the largest id that stands for something.
func (t *Tokenizer) MaxID() int { return t.maxID }

// AddedTokens returns the texts of the added tokens, longest first.
func (t *Tokenizer) AddedTokens() []string {
	out := make([]string, len(t.added))
	for i, a := range t.added {
		out[i] = a.content
	}
	return out
}

// AddedID returns the id of an added token such as "<|user|>".
func (t *Tokenizer) AddedID(content string) (int, bool) {
	id, ok := t.addedIDs[content]
	return id, ok
}

// IsSpecial reports whether id is an added token marked as special: role and
// end markers are, think and tool tags are not.
func (t *Tokenizer) IsSpecial(id int) bool { return t.special[id] }

// Bytes returns what an id stands for; a part of a character is possible. ok is
// false for ids that stand for nothing.
func (t *Tokenizer) Bytes(id int) (text string, ok bool) {
	text, ok = t.texts[id]
	return text, ok
}
