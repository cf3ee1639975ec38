package serve

import (
	"context"
	"errors"
	"slices"
	"sync"
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
	top     int // log-probabilities of generated tokens: the most likely ones; -1: none
	asked   int // the same of the prompt
	events  mailbox
	arrived time.Time

	session *runtime.Session
	read    int // tokens of the prompt
	made    int
	next    int // the token that is read next

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
func (j *job) cost() int { return len(j.prompt) + j.most }

// scheduler runs jobs through a model, one step after the other.
type scheduler struct {
	model  *runtime.Model
	places int // sequences at once
	queue  int // that wait
	budget int // slots of the cache
	m      *metrics

	mu      sync.Mutex
	waiting []*job
	wake    chan struct{}
	closed  bool
	done    chan struct{}

	running []*job // of the loop alone
	used    int
}

func newScheduler(model *runtime.Model, places, queue, budget int, m *metrics) *scheduler {
	s := &scheduler{model: model, places: places, queue: queue, budget: budget, m: m, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.loop()
	return s
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
	for len(s.waiting) > 0 && len(s.running) < s.places && (s.used+s.waiting[0].cost() <= s.budget || len(s.running) == 0) {
		j := s.waiting[0]
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		j.session = s.model.NewSession()
		s.used += j.cost()
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

// step computes one row of every sequence that decodes and one chunk of the
// oldest prompt.
func (s *scheduler) step() {
	var steps []runtime.Step
	var who []*job
	reading := false
	for _, j := range s.running {
		switch {
		case j.read == len(j.prompt):
			steps, who = append(steps, runtime.Step{Session: j.session, IDs: []int{j.next}}), append(who, j)
		case !reading:
			reading = true
			steps, who = append(steps, runtime.Step{Session: j.session, IDs: j.prompt[j.read:min(j.read+chunk, len(j.prompt))]}), append(who, j)
		}
	}
	ctx := context.Background() // a step is short; clients that leave are dropped between steps
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
	vocab := s.model.Config().VocabSize
	for i, j := range who {
		mine := z[rows[i][0]*vocab : rows[i][1]*vocab]
		s.advance(j, len(steps[i].IDs), mine, vocab)
	}
	s.running = slices.DeleteFunc(s.running, func(j *job) bool {
		if j.session == nil {
			s.used -= j.cost()
			return true
		}
		return false
	})
}

// logits computes the rows that are needed: the last of each step, every row of
// a prompt whose log-probabilities are asked for. rows are their first and the
// one after the last, by step.
func (s *scheduler) logits(ctx context.Context, steps []runtime.Step, who []*job, h []float32) (rows [][2]int, z []float32, err error) {
	width := s.model.Config().HiddenSize
	var need []float32
	at := 0
	for i, st := range steps {
		n := len(st.IDs)
		first := n - 1
		j := who[i]
		if j.read < len(j.prompt) {
			if j.asked >= 0 {
				first = 0
			} else if j.read+n < len(j.prompt) {
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

// advance takes a job's rows of logits.
func (s *scheduler) advance(j *job, n int, z []float32, vocab int) {
	if j.read < len(j.prompt) {
		if j.asked >= 0 {
			j.gather(z, n, vocab)
		}
		if j.read += n; j.read < len(j.prompt) {
			return
		}
		s.m.promptTokens.Add(int64(len(j.prompt)))
	}
	if j.most == 0 {
		j.end("length")
		return
	}
	last := z[len(z)-vocab:]
	j.next = j.sampler.Next(last)
	j.made++
	e := event{token: j.next}
	if j.top >= 0 {
		p := judge(last, j.next, j.top)
		e.prob = &p
	}
	if j.made == 1 {
		e.prompt, j.promptProbs = j.promptProbs, nil
		s.m.first.observe(time.Since(j.arrived))
	}
	s.m.madeTokens.Add(1)
	j.events.put(e)
	switch {
	case slices.Contains(j.stop, j.next):
		j.end("stop")
	case j.made == j.most:
		j.end("length")
	}
}

// end gives the session's memory back.
func (j *job) end(reason string) {
	j.events.put(event{reason: reason, prompt: j.promptProbs})
	j.session, j.promptProbs = nil, nil
}

// fail ends every running job with an error of the model.
func (s *scheduler) fail(err error) {
	for _, j := range s.running {
		j.events.put(event{err: err})
		s.used -= j.cost()
	}
	s.running = nil
}
