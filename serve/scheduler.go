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

	running []*job      // of the loop alone
	forget  atomic.Bool // the prefixes kept are to be dropped
}

func newScheduler(model *runtime.Model, places, queue, budget int, m *metrics) *scheduler {
	return &scheduler{model: model, places: places, queue: queue, budget: budget, m: m, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// add queues the jobs of a request, all or none. The events of each end with one
// that has a reason or an error.
func (s *scheduler) add(jobs ...*job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed
	case s.requests() >= s.queue:
		return errBusy
	}
	for _, j := range jobs {
		j.request = jobs[0]
		j.arrived, j.input = time.Now(), j.prompt
		j.events.ready = make(chan struct{}, 1)
	}
	s.waiting = append(s.waiting, jobs...)
	s.m.waiting.Store(int64(len(s.waiting)))
	s.poke()
	return nil
}

// requests is how many wait, whole or in part: the bound of the queue is of
// requests, or one of many prompts would never be taken.
func (s *scheduler) requests() int {
	seen := map[*job]bool{} // one that made room stands apart from the others of its request
	for _, j := range s.waiting {
		seen[j.request] = true
	}
	return len(seen)
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
	s.running, s.waiting = nil, nil
	s.gauges()
}

// used is the slots of the cache that running jobs fill by the end of a step.
func (s *scheduler) used() (n int) {
	for _, j := range s.running {
		n += j.cost()
	}
	return n
}

// admit drops jobs whose client is gone and takes waiting ones, in order, as
// places and budget allow.
func (s *scheduler) admit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := func(j *job) bool { return j.ctx.Err() != nil }
	s.waiting = slices.DeleteFunc(s.waiting, gone)
	s.running = slices.DeleteFunc(s.running, gone)
	if s.forget.Swap(false) {
		s.kept = prefixes{}
	}
	used := s.used()
	for len(s.waiting) > 0 && len(s.running) < s.places && (used+s.waiting[0].cost() <= s.budget || len(s.running) == 0) {
		j := s.waiting[0]
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		s.begin(j)
		used += j.cost()
		s.running = append(s.running, j)
		if j.made == 0 {
			s.m.queued.observe(time.Since(j.arrived))
		}
	}
	s.makeRoom()
	s.gauges()
}

// makeRoom lets the running jobs have what a step needs: prefixes that are kept
// go first, then the cache of the job that came last, which waits and is read
// again. The last job that is left goes on whatever it needs.
func (s *scheduler) makeRoom() {
	for s.used() > s.budget && len(s.running) > 1 {
		last := 0
		for i, j := range s.running {
			if !j.arrived.Before(s.running[last].arrived) {
				last = i
			}
		}
		j := s.running[last]
		s.running = slices.Delete(s.running, last, last+1)
		j.restart()
		s.waiting = slices.Insert(s.waiting, 0, j)
		s.m.preempted.Add(1)
	}
	s.kept.shrink(s.budget - s.used())
}

func (s *scheduler) gauges() {
	s.m.running.Store(int64(len(s.running)))
	s.m.waiting.Store(int64(len(s.waiting)))
	s.m.usage.Store(int64(1e6 * float64(s.used()) / float64(max(s.budget, 1))))
}

// begin gives a job its session, with what the cache has of its prompt.
func (s *scheduler) begin(j *job) {
	j.session = s.model.NewSession()
	if j.media != nil {
		if err := j.session.Attach(j.media); err != nil {
			j.events.put(event{err: err}) // an empty session takes any
		}
	} else if j.asked < 0 {
		if k, n := s.kept.find(j.input); n > 0 {
			j.session, j.read = k.session.Clone(n), n
			if k.drafter != nil {
				j.drafter = k.drafter.Clone(n)
			}
		}
		if j.made == 0 {
			j.cached = j.read
			s.m.cacheAsked.Add(int64(len(j.prompt)))
			s.m.cacheHit.Add(int64(j.cached))
		}
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
		case j.read == len(j.input):
			ids, err := s.draft(ctx, j)
			if err != nil {
				s.fail(err)
				return
			}
			steps, who = append(steps, runtime.Step{Session: j.session, IDs: ids}), append(who, j)
		case !reading:
			reading = true
			steps, who = append(steps, runtime.Step{Session: j.session, IDs: j.input[j.read:min(j.read+chunk, len(j.input))]}), append(who, j)
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
	s.running = slices.DeleteFunc(s.running, func(j *job) bool { return j.session == nil })
	s.kept.shrink(s.budget - s.used())
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
		if j := who[i]; j.read < len(j.input) && j.asked < 0 {
			first = n - 1
			if j.read+n < len(j.input) {
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

// fail ends every running job with an error of the model.
func (s *scheduler) fail(err error) {
	for _, j := range s.running {
		j.events.put(event{err: err})
	}
	s.running = nil
}
