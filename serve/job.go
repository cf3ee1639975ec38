package serve

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
)

// job is a request while it is computed.
type job struct {
	ctx     context.Context
	request *job // the first job of the same request
	prompt  []int
	most    int // tokens to generate
	stop    []int
	sampler *spec.Sampler
	top     int   // log-probabilities of generated tokens: the most likely ones; -1: none
	asked   int   // the same of the prompt
	wanted  []int // tokens of the prompt's log-probabilities besides
	extra   int   // slots that drafts may fill for a moment
	events  mailbox
	arrived time.Time

	adjust  *adjust        // of the logits before a token is chosen; nil: none
	form    *form          // that the answer must have; nil: any
	watch   *reader        // looks for stop strings, where there are any: one ends the job, whoever reads its events
	media   *runtime.Media // of the prompt; nil: text
	session *runtime.Session
	drafter *spec.Drafter // nil: no drafts
	input   []int         // what is read before tokens are made: the prompt, and behind it what was made before the cache was taken away
	read    int           // tokens of it
	cached  int           // of the prompt, those that were found in the cache
	made    int
	next    int       // the token that is read next
	text    []int     // tokens made so far
	ahead   []int     // what the drafter reads next: tokens, one place behind
	states  []float32 // and states
	drafts  []int     // of the step that is under way
	firstAt time.Time // of the first token
	lastAt  time.Time // of the last token
	ended   string    // why the text ends

	promptProbs []*position
	step        []event // tokens of the step that is under way
}

// event is a token, or the end.
type event struct {
	token  int
	more   bool // another token of the same step, or the end, follows
	prob   *position
	prompt []*position // with the first event, where asked for
	reason string      // of the end
	err    error
}

// mailbox holds what a reader has not taken yet: the loop never waits for one.
type mailbox struct {
	mu    sync.Mutex
	list  []event
	ready chan struct{}
}

func (b *mailbox) put(list ...event) {
	b.mu.Lock()
	b.list = append(b.list, list...)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// take waits for events; nil when ctx is done. idle is called after each stretch
// of waiting; every 0 is never.
func (b *mailbox) take(ctx context.Context, every time.Duration, idle func()) []event {
	var tick <-chan time.Time
	if every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	for {
		b.mu.Lock()
		list := b.list
		b.list = nil
		b.mu.Unlock()
		if len(list) > 0 {
			return list
		}
		select {
		case <-b.ready:
		case <-tick:
			idle()
		case <-ctx.Done():
			return nil
		}
	}
}

// cost is the slots of the cache, in whole pages, that a job fills by the end of
// its next step.
func (j *job) cost() int {
	n := len(j.input)
	if j.session != nil {
		n = max(n, j.session.Len())
	}
	return (n + 1 + j.extra + page - 1) / page * page
}

// restart takes the cache away: the prompt and what was made are read again.
func (j *job) restart() {
	j.input = append(slices.Clone(j.prompt), j.text...)
	j.session, j.drafter, j.states, j.drafts, j.promptProbs = nil, nil, nil, nil, nil
	j.read, j.ahead = 0, j.ahead[:0]
	if j.made > 0 {
		j.asked = -1 // was answered with the first token
	}
}

// flush gives the reader what a step made.
func (j *job) flush() {
	for i := range j.step {
		j.step[i].more = i+1 < len(j.step)
	}
	j.events.put(j.step...)
	j.step = j.step[:0]
}

// end gives the reader the last step with the reason, and the session's memory
// back.
func (j *job) end(reason string) {
	for i := range j.step {
		j.step[i].more = true
	}
	j.finish(event{reason: reason, prompt: j.promptProbs})
}

// abort ends the answer with an error, behind the tokens that it has.
func (j *job) abort(err error) { j.finish(event{err: err}) }

// finish sends the last event and gives back what the answer held.
func (j *job) finish(last event) {
	j.events.put(append(j.step, last)...)
	j.step = nil
	j.session, j.drafter, j.promptProbs, j.states = nil, nil, nil, nil
}

// behind is how many drafts from the i-th on would have been accepted where a text
// ended with the token of row i: vLLM counts these too. z begins at that row.
func (j *job) behind(z []float32, vocab, i int) (n int) {
	for next := j.next; i < len(j.drafts) && next == j.drafts[i]; i++ {
		n++
		next = j.sampler.Next(z[n*vocab:][:vocab])
	}
	return n
}
