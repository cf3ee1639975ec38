package serve

import (
	"context"
	"sync"
	"time"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
)

// job is a request while it is computed.
type job struct {
	ctx     context.Context
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
	media   *runtime.Media // of the prompt; nil: text
	session *runtime.Session
	drafter *spec.Drafter // nil: no drafts
	read    int           // tokens of the prompt
	cached  int           // of these, those that were found in the cache
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
}

// event is a token, or the end.
type event struct {
	token  int
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

func (b *mailbox) put(e event) {
	b.mu.Lock()
	b.list = append(b.list, e)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// take waits for events; nil when ctx is done.
func (b *mailbox) take(ctx context.Context) []event {
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
		case <-ctx.Done():
			return nil
		}
	}
}

// cost is the slots of the cache that a job may fill.
func (j *job) cost() int { return len(j.prompt) + j.most + j.extra }

// end gives the session's memory back.
func (j *job) end(reason string) {
	j.events.put(event{reason: reason, prompt: j.promptProbs})
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
