package tokenizer

import (
	"context"
	"strings"
)

// polled is how many steps are taken between two looks at the context: a
// fraction of a millisecond.
const polled = 1 << 14

// encoder is a text on its way to ids. Whatever takes time in proportion to
// the text or the vocabulary counts it here, a step for about a byte, and ends
// once err is set.
type encoder struct {
	*Tokenizer
	ctx  context.Context
	left int // steps until ctx is asked again
	err  error
	ids  []int
}

// work counts n steps and tells whether to go on.
func (e *encoder) work(n int) bool {
	if e.left -= n; e.left < 0 && e.err == nil {
		e.left, e.err = polled, e.ctx.Err()
	}
	return e.err == nil
}

// Encode returns the ids of text, with added tokens ("<|user|>", "<think>", …)
// recognised wherever they stand. Nothing is put in front: the usual prefix
// [gMASK]<sop> belongs to the prompt.
func (t *Tokenizer) Encode(text string) []int {
	ids, _ := t.EncodeContext(context.Background(), text) // no error without an end of the context
	return ids
}

// EncodeContext is Encode for text of any length that nobody may be waiting
// for any more: it ends soon after ctx does. The only error is ctx.Err().
func (t *Tokenizer) EncodeContext(ctx context.Context, text string) ([]int, error) {
	e := &encoder{Tokenizer: t, ctx: ctx}
	start := 0
	for i := 0; i < len(text) && e.work(1); {
		if a, ok := e.addedAt(text, i); ok {
			e.ordinary(text[start:i])
			e.ids = append(e.ids, a.id)
			i += len(a.content)
			start = i
			continue
		}
		i++
	}
	e.ordinary(text[start:])
	return e.result()
}

// EncodeOrdinary returns the ids of text without recognising added tokens:
// "<|user|>" becomes the pieces "<|", "user", "|>". This is the form for text
// that comes from outside.
func (t *Tokenizer) EncodeOrdinary(text string) []int {
	ids, _ := t.EncodeOrdinaryContext(context.Background(), text)
	return ids
}

// EncodeOrdinaryContext is to EncodeOrdinary what EncodeContext is to Encode.
func (t *Tokenizer) EncodeOrdinaryContext(ctx context.Context, text string) ([]int, error) {
	e := &encoder{Tokenizer: t, ctx: ctx}
	e.ordinary(text)
	return e.result()
}

func (e *encoder) result() ([]int, error) {
	if e.err == nil {
		e.err = e.ctx.Err()
	}
	if e.err != nil {
		return nil, e.err
	}
	return e.ids, nil
}

func (e *encoder) ordinary(text string) {
	for i := 0; i < len(text); {
		end := nextPiece(text, i)
		if !e.work(end - i) {
			return
		}
		e.piece(text[i:end])
		i = end
	}
}

// addedAt returns the longest added token at text[i:].
func (e *encoder) addedAt(text string, i int) (addedToken, bool) {
	if !e.addedFirst[text[i]] {
		return addedToken{}, false
	}
	e.work(len(e.added))
	for _, a := range e.added {
		if strings.HasPrefix(text[i:], a.content) {
			return a, true
		}
	}
	return addedToken{}, false
}
