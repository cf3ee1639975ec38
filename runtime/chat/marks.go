package chat

import (
	"context"
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
	ids, _ := p.EncodeContext(context.Background(), tok) // no error without an end of the context
	return ids
}

// polled is how many marks are looked for between two looks at the context.
const polled = 1 << 14

// EncodeContext is Encode that ends soon after ctx does. The only error is
// ctx.Err().
func (p Prompt) EncodeContext(ctx context.Context, tok *tokenizer.Tokenizer) ([]int, error) {
	added := tok.AddedTokens()
	sort.SliceStable(added, func(i, j int) bool { return len(added[i]) > len(added[j]) })
	var ids []int
	start, text, left := 0, p.Text(), polled
	plain := func(end int) error {
		more, err := tok.EncodeOrdinaryContext(ctx, text[start:end])
		ids = append(ids, more...)
		return err
	}
scan:
	for i := 0; i < len(text); {
		if strings.IndexByte(starts, text[i]) >= 0 && !p.text.Foreign(i) {
			if left -= len(added); left < 0 {
				if left = polled; ctx.Err() != nil {
					return nil, ctx.Err()
				}
			}
			for _, a := range added {
				if strings.HasPrefix(text[i:], a) && p.own(i, i+len(a)) {
					if err := plain(i); err != nil {
						return nil, err
					}
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
	if err := plain(len(text)); err != nil {
		return nil, err
	}
	return ids, nil
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
