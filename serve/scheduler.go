package serve

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
)

// chunk is how many tokens of a prompt one step computes: a long one delays
// others by a step at a time.
const chunk = 512

// errBusy and errClosed end requests that are not taken.
var (
	errBusy   = errors.New("the queue is full")
	errClosed = errors.New("the server is stopping")
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

// scheduler runs jobs through a model, one step after the other.
type scheduler struct {
	model  *runtime.Model
	places int // sequences at once
	queue  int // that wait
	budget int // slots of the cache
	drafts int // of a step; 0: none
	mtp    *runtime.MTP
	m      *metrics
	kept   prefixes

	mu      sync.Mutex
	waiting []*job
	wake    chan struct{}
	closed  bool
	done    chan struct{}

	running []*job // of the loop alone
	used    int
	forget  atomic.Bool // the prefixes kept are to be dropped
}

func newScheduler(model *runtime.Model, places, queue, budget int, m *metrics) *scheduler {
	return &scheduler{model: model, places: places, queue: queue, budget: budget, m: m, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// add queues a job. Its events end with one that has a reason or an error.
func (s *scheduler) add(j *job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed
	case len(s.waiting) >= s.queue:
		return errBusy
	}
	j.arrived = time.Now()
	j.events.ready = make(chan struct{}, 1)
	s.waiting = append(s.waiting, j)
	s.m.waiting.Store(int64(len(s.waiting)))
	s.poke()
	return nil
}

func (s *scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// close ends all jobs and waits for the loop.
func (s *scheduler) close() {
	s.mu.Lock()
	s.closed = true
	s.poke()
	s.mu.Unlock()
	<-s.done
}

func (s *scheduler) loop() {
	defer close(s.done)
	for {
		s.admit()
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed {
			s.abandon()
			return
		}
		if len(s.running) == 0 {
			<-s.wake
			continue
		}
		s.step()
	}
}

// abandon tells every job that the server stops.
func (s *scheduler) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range append(s.running, s.waiting...) {
		j.events.put(event{err: errClosed})
	}
	s.running, s.waiting, s.used = nil, nil, 0
	s.gauges()
}

// admit drops jobs whose client is gone and takes waiting ones, in order, as
// places and budget allow.
func (s *scheduler) admit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := func(j *job) bool { return j.ctx.Err() != nil }
	s.waiting = slices.DeleteFunc(s.waiting, gone)
	s.running = slices.DeleteFunc(s.running, func(j *job) bool {
		if gone(j) {
			s.used -= j.cost()
			return true
		}
		return false
	})
	if s.forget.Swap(false) {
		s.kept = prefixes{}
	}
	for len(s.waiting) > 0 && len(s.running) < s.places && (s.used+s.waiting[0].cost() <= s.budget || len(s.running) == 0) {
		j := s.waiting[0]
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		s.begin(j)
		s.used += j.cost()
		s.kept.shrink(s.budget - s.used)
		s.running = append(s.running, j)
		s.m.queued.observe(time.Since(j.arrived))
	}
	s.gauges()
}

func (s *scheduler) gauges() {
	s.m.running.Store(int64(len(s.running)))
	s.m.waiting.Store(int64(len(s.waiting)))
	s.m.usage.Store(int64(1e6 * float64(s.used) / float64(max(s.budget, 1))))
}

// begin gives a job its session, with what the cache has of its prompt.
func (s *scheduler) begin(j *job) {
	j.session = s.model.NewSession()
	if j.media != nil {
		if err := j.session.Attach(j.media); err != nil {
			j.events.put(event{err: err}) // an empty session takes any
		}
	} else if j.asked < 0 {
		if k, n := s.kept.find(j.prompt); n > 0 {
			j.session, j.read, j.cached = k.session.Clone(n), n, n
			if k.drafter != nil {
				j.drafter = k.drafter.Clone(n)
			}
		}
		s.m.cacheAsked.Add(int64(len(j.prompt)))
		s.m.cacheHit.Add(int64(j.cached))
	}
	if s.drafts > 0 && j.drafter == nil && j.read == 0 {
		j.drafter = spec.NewDrafter(s.mtp, false)
	}
}

// step computes the next rows of every sequence that decodes and one chunk of the
// oldest prompt.
func (s *scheduler) step() {
	ctx := context.Background() // a step is short; clients that leave are dropped between steps
	var steps []runtime.Step
	var who []*job
	reading := false
	for _, j := range s.running {
		switch {
		case j.read == len(j.prompt):
			ids, err := s.draft(ctx, j)
			if err != nil {
				s.fail(err)
				return
			}
			steps, who = append(steps, runtime.Step{Session: j.session, IDs: ids}), append(who, j)
		case !reading:
			reading = true
			steps, who = append(steps, runtime.Step{Session: j.session, IDs: j.prompt[j.read:min(j.read+chunk, len(j.prompt))]}), append(who, j)
		}
	}
	h, err := s.model.Forward(ctx, steps, nil)
	if err != nil {
		s.fail(err)
		return
	}
	rows, z, err := s.logits(ctx, steps, who, h)
	if err != nil {
		s.fail(err)
		return
	}
	vocab, width := s.model.Config().VocabSize, s.model.Config().HiddenSize
	at := 0
	for i, j := range who {
		n := len(steps[i].IDs)
		mine := z[rows[i][0]*vocab : rows[i][1]*vocab]
		if err := s.advance(ctx, j, n, h[at*width:(at+n)*width], mine, vocab); err != nil {
			s.fail(err)
			return
		}
		at += n
	}
	s.running = slices.DeleteFunc(s.running, func(j *job) bool {
		if j.session == nil {
			s.used -= j.cost()
			return true
		}
		return false
	})
	s.kept.shrink(s.budget - s.used)
}

// draft returns the tokens of a job's next pass: the one that is certain, and
// drafts of those behind it.
func (s *scheduler) draft(ctx context.Context, j *job) (ids []int, err error) {
	j.drafts = nil
	if j.drafter != nil {
		if j.drafts, err = j.drafter.Draft(ctx, j.ahead, j.states, s.drafts); err != nil {
			return nil, err
		}
	}
	return append([]int{j.next}, j.drafts...), nil
}

// logits computes the rows that are needed: the last of each step, those of
// drafts, every row of a prompt whose log-probabilities are asked for. rows are
// their first and the one after the last, by step.
func (s *scheduler) logits(ctx context.Context, steps []runtime.Step, who []*job, h []float32) (rows [][2]int, z []float32, err error) {
	width := s.model.Config().HiddenSize
	var need []float32
	at := 0
	for i, st := range steps {
		n := len(st.IDs)
		first := 0
		if j := who[i]; j.read < len(j.prompt) && j.asked < 0 {
			first = n - 1
			if j.read+n < len(j.prompt) {
				first = n // an inner chunk: nothing to choose
			}
		}
		rows = append(rows, [2]int{len(need) / width, len(need)/width + n - first})
		need = append(need, h[(at+first)*width:(at+n)*width]...)
		at += n
	}
	if len(need) == 0 {
		return rows, nil, nil
	}
	z, err = s.model.Logits(ctx, need)
	return rows, z, err
}

// advance takes the states h and rows of logits z of a job's n tokens.
func (s *scheduler) advance(ctx context.Context, j *job, n int, h, z []float32, vocab int) error {
	if j.read < len(j.prompt) {
		return s.readOn(ctx, j, n, h, z, vocab)
	}
	start := j.session.Len() - n
	j.ahead = j.ahead[:0]
	for i := 0; ; i++ {
		more := s.choose(j, z[i*vocab:][:vocab])
		j.ahead = append(j.ahead, j.next)
		if !more {
			s.countDrafts(j, i+j.behind(z[i*vocab:], vocab, i))
			s.leave(j, start+len(j.ahead))
			return nil
		}
		if i == len(j.drafts) || j.next != j.drafts[i] {
			break
		}
	}
	s.countDrafts(j, len(j.ahead)-1)
	j.session.Truncate(start + len(j.ahead))
	j.states = h[:len(j.ahead)*len(h)/n]
	return nil
}

// readOn takes a chunk of the prompt.
func (s *scheduler) readOn(ctx context.Context, j *job, n int, h, z []float32, vocab int) error {
	if j.asked >= 0 {
		j.gather(z, n, vocab)
	}
	j.read += n
	if j.read < len(j.prompt) {
		if j.drafter != nil {
			return j.drafter.Read(ctx, j.prompt[j.read-n+1:j.read+1], h)
		}
		return nil
	}
	s.m.promptTokens.Add(int64(len(j.prompt)))
	if j.most == 0 {
		j.end("length")
		return nil
	}
	if !s.choose(j, z[len(z)-vocab:]) {
		s.leave(j, j.session.Len())
		return nil
	}
	j.ahead, j.states = append(slices.Clone(j.prompt[len(j.prompt)-n+1:]), j.next), h
	return nil
}

// choose takes the next token from a row of logits and reports whether the text
// goes on.
func (s *scheduler) choose(j *job, z []float32) bool {
	e := event{}
	row := z
	if j.adjust != nil {
		row = j.adjust.apply(z, j)
	}
	j.next = j.sampler.Next(row)
	j.made++
	j.text = append(j.text, j.next)
	e.token = j.next
	if j.top >= 0 {
		p := judge(z, j.next, j.top)
		e.prob = &p
	}
	now := time.Now()
	if j.made == 1 {
		e.prompt, j.promptProbs = j.promptProbs, nil
		j.firstAt = now
		s.m.first.observe(now.Sub(j.arrived))
	} else {
		s.m.between.observe(now.Sub(j.lastAt))
	}
	j.lastAt = now
	s.m.madeTokens.Add(1)
	switch {
	case slices.Contains(j.stop, j.next):
		e.reason = "stop"
	case j.made == j.most:
		e.reason = "length"
	}
	reason := e.reason
	e.reason = ""
	j.events.put(e)
	if reason == "" {
		return true
	}
	j.ended = reason
	return false
}

// leave ends a job whose session holds n tokens that count, and keeps these for
// prompts that begin alike.
func (s *scheduler) leave(j *job, n int) {
	j.session.Truncate(n)
	if j.made > 1 {
		s.m.perToken.observe(j.lastAt.Sub(j.firstAt) / time.Duration(j.made-1))
	}
	if j.media == nil {
		ids := append(slices.Clone(j.prompt), j.text...)
		k := &prefix{ids: ids[:min(n, len(ids))], session: j.session}
		if j.drafter != nil {
			k.drafter = j.drafter
			k.ids = k.ids[:min(len(k.ids), j.drafter.Len())] // what it has read with true states
		}
		s.kept.put(k)
	}
	j.end(j.ended)
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

// countDrafts counts a pass of which n drafts were accepted.
func (s *scheduler) countDrafts(j *job, n int) {
	if j.drafter == nil {
		return
	}
	s.m.passes.Add(1)
	s.m.drafted.Add(int64(len(j.drafts)))
	s.m.accepted.Add(int64(n))
	for i := range min(n, len(s.m.acceptedAt)) {
		s.m.acceptedAt[i].Add(1)
	}
}

// end gives the session's memory back.
func (j *job) end(reason string) {
	j.events.put(event{reason: reason, prompt: j.promptProbs})
	j.session, j.drafter, j.promptProbs, j.states = nil, nil, nil, nil
}

// fail ends every running job with an error of the model.
func (s *scheduler) fail(err error) {
	for _, j := range s.running {
		j.events.put(event{err: err})
		s.used -= j.cost()
	}
	s.running = nil
}
