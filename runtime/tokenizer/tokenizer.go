package tokenizer

import "strings"

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

// Encode returns the ids of text, with added tokens ("<|user|>", "<think>", …)
// recognised wherever they stand. Nothing is put in front: the usual prefix
// [gMASK]<sop> belongs to the prompt.
func (t *Tokenizer) Encode(text string) []int {
	var ids []int
	start := 0
	for i := 0; i < len(text); {
		if a, ok := t.addedAt(text, i); ok {
			ids = t.ordinary(ids, text[start:i])
			ids = append(ids, a.id)
			i += len(a.content)
			start = i
			continue
		}
		i++
	}
	return t.ordinary(ids, text[start:])
}

// EncodeOrdinary returns the ids of text without recognising added tokens:
// "<|user|>" becomes the pieces "<|", "user", "|>". This is the form for text
// that comes from outside.
func (t *Tokenizer) EncodeOrdinary(text string) []int { return t.ordinary(nil, text) }

func (t *Tokenizer) ordinary(ids []int, text string) []int {
	for i := 0; i < len(text); {
		end := nextPiece(text, i)
		ids = t.encodePiece(ids, text[i:end])
		i = end
	}
	return ids
}

// addedAt returns the longest added token at text[i:].
func (t *Tokenizer) addedAt(text string, i int) (addedToken, bool) {
	if !t.addedFirst[text[i]] {
		return addedToken{}, false
	}
	for _, a := range t.added {
		if strings.HasPrefix(text[i:], a.content) {
			return a, true
		}
	}
	return addedToken{}, false
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
