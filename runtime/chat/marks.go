package chat

import (
	"sort"
	"strings"

	"github.com/glmconv/glmconv/runtime/chat/jinja"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// starts are the characters with which added tokens of GLM vocabularies begin:
// <|user|>, <think>, [gMASK], /nothink.
const starts = "<[/"

// Prompt is a rendered conversation.
type Prompt struct{ text jinja.Text }

// Text is the prompt as transformers would print it.
func (p Prompt) Text() string { return p.text.String() }

// Encode returns the token ids: markers that the template wrote become their
// added tokens, everything that came from messages and tools is plain text.
func (p Prompt) Encode(tok *tokenizer.Tokenizer) []int {
	added := tok.AddedTokens()
	sort.SliceStable(added, func(i, j int) bool { return len(added[i]) > len(added[j]) })
	var ids []int
	start, text := 0, p.Text()
	plain := func(end int) {
		if start < end {
			ids = append(ids, tok.EncodeOrdinary(text[start:end])...)
		}
	}
scan:
	for i := 0; i < len(text); {
		if strings.IndexByte(starts, text[i]) >= 0 && !p.text.Foreign(i) {
			for _, a := range added {
				if strings.HasPrefix(text[i:], a) && p.own(i, i+len(a)) {
					plain(i)
					id, _ := tok.AddedID(a)
					ids = append(ids, id)
					i += len(a)
					start = i
					continue scan
				}
			}
		}
		i++
	}
	plain(len(text))
	return ids
}

// own tells whether the template wrote every byte from i up to j.
func (p Prompt) own(i, j int) bool {
	for ; i < j; i++ {
		if p.text.Foreign(i) {
			return false
		}
	}
	return true
}
