package jinja

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bounds of one rendering. Real templates with long agent histories stay far
// below them; a hostile one meets an error.
const (
	maxNesting = 150      // of expressions, tags, calls and values
	maxChain   = 10_000   // operators in a row
	maxText    = 64 << 20 // bytes of one text
)

var (
	maxSteps = 5_000_000 // statements, loop iterations, calls, filters, and what they look at
	maxSpent = 256 << 20 // bytes of all texts and lists
)

// ErrLimit: a bound on nesting, steps or memory was reached.
var ErrLimit = errors.New("limit reached")

// What one step looks at.
const (
	scanned = 64 // bytes that are searched, compared or copied
	decoded = 16 // bytes that are read character by character
	polled  = 1024
)

// What an iteration and a call are counted as: each makes names of its own.
const roundSteps = 4

// run is the state of one rendering. Whatever takes time in proportion to a
// value counts it here, where it happens, and stops once err is set: a list
// that holds itself many times over is small until somebody walks through it.
type run struct {
	ctx          context.Context
	now          time.Time
	steps, spent int
	next         int   // the step at which ctx is asked again
	depth, level int   // of calls, of values within values
	err          error // the bound that was reached, or the end of ctx: it outranks every other error
}

func newRun(ctx context.Context, now time.Time) *run { return &run{ctx: ctx, now: now, next: polled} }

func (r *run) step() error { return r.work(1) }

// scan counts n bytes of text that are searched, compared or copied.
func (r *run) scan(n int) error { return r.work(n / scanned) }

// decode counts n bytes of text that are read character by character.
func (r *run) decode(n int) error { return r.work(n / decoded) }

// work counts n steps.
func (r *run) work(n int) error {
	if r.err != nil {
		return r.err
	}
	if r.steps += n; r.steps > maxSteps {
		r.err = fmt.Errorf("%w: more than %d steps", ErrLimit, maxSteps)
	} else if r.steps >= r.next {
		r.next = r.steps + polled
		r.err = r.ctx.Err()
	}
	return r.err
}

// spend counts n bytes that are kept.
func (r *run) spend(n int) error {
	if r.err != nil {
		return r.err
	}
	if r.spent += n; n > maxText || r.spent > maxSpent {
		r.err = fmt.Errorf("%w: more than %d bytes", ErrLimit, min(maxText, maxSpent))
	}
	return r.err
}

// What a list, an item of it and an entry of a dict are counted as.
const (
	listBytes  = 64
	itemBytes  = 16
	partBytes  = 48 // an item that is a new text
	entryBytes = 96
)

// enter bounds calls within calls; done undoes it.
func (r *run) enter() (done func(), err error) {
	if err := r.work(roundSteps); err != nil {
		return nil, err
	}
	if r.depth >= maxNesting {
		return nil, fmt.Errorf("%w: calls nested deeper than %d", ErrLimit, maxNesting)
	}
	r.depth++
	return func() { r.depth-- }, nil
}

// within counts one value within another and tells whether to go on; if so,
// out undoes it.
func (r *run) within() bool {
	if r.work(1) != nil {
		return false
	}
	if r.level >= maxNesting {
		r.err = fmt.Errorf("%w: values nested deeper than %d", ErrLimit, maxNesting)
		return false
	}
	r.level++
	return true
}

func (r *run) out() { r.level-- }

// end gives an error its line. A bound that was reached is the error of
// whatever ran into it.
func (r *run) end(line int, err error) error {
	if r.err != nil && !errors.Is(err, r.err) {
		err = r.err
	}
	return at(line, err)
}

// name reads the name of a filter, a test, a way: none is long.
func (r *run) name(v any) string {
	s := r.str(v).s
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}
