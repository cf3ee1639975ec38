package tokenizer

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// asked ends once it has been asked a number of times.
type asked struct {
	context.Context
	left int
}

func (a *asked) Err() error {
	if a.left--; a.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestEncodingEnds: whatever a text is made of, encoding it asks the context
// again and again, and stops where it ends.
func TestEncodingEnds(t *testing.T) {
	tok := mustParse(t, small(nil, "a b", "b a", "ab a", "a a"))
	const n = 1 << 18
	for name, text := range map[string]string{
		"one long word":       strings.Repeat("a", n),
		"words":               strings.Repeat("ab cd ", n/6),
		"digits":              strings.Repeat("1", n),
		"white space":         strings.Repeat(" ", n),
		"characters of four":  strings.Repeat("🌳", n/4),
		"added tokens":        strings.Repeat("<sp>", n/4),
		"almost added tokens": strings.Repeat("<", n),
	} {
		t.Run(name, func(t *testing.T) {
			for form, encode := range map[string]func(context.Context, string) ([]int, error){"all": tok.EncodeContext, "ordinary": tok.EncodeOrdinaryContext} {
				never := &asked{context.Background(), 1 << 30}
				ids, err := encode(never, text)
				assert.NoError(t, err)
				assert.NotEmpty(t, ids)
				count := 1<<30 - never.left
				assert.Greater(t, count, n/polled/3, "%s: asked %d times", form, count)

				late := &asked{context.Background(), 3}
				ids, err = encode(late, text)
				assert.ErrorIs(t, err, context.Canceled, form)
				assert.Empty(t, ids)
				assert.Greater(t, late.left, -4, "%s: work went on after the end", form)
			}
		})
	}
}

// TestEncodingEndsInTime: a text that takes seconds is given up at once.
func TestEncodingEndsInTime(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := mustParse(t, small(nil, "a b", "ab ab")).EncodeContext(ctx, strings.Repeat("ab", 4<<20))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(start), 900*time.Millisecond)
}
