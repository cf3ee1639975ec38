package serve

import (
	"context"
	"net/http"
	"slices"
	"time"
)

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

// errNoNumbers ends answers of a damaged model: its tokens would all be the first
// of the vocabulary, "!!!!".
var errNoNumbers = &apiError{status: http.StatusInternalServerError,
	message: "the model computes values that are not numbers: a weight or scale of the folder is damaged (glmconv check --weights names it)"}

// numberless reports whether logits have NaN or infinities.
func numberless(z []float32) bool {
	for _, v := range z {
		if v-v != 0 {
			return true
		}
	}
	return false
}

// advance takes the states h and rows of logits z of a job's n tokens.
func (s *scheduler) advance(ctx context.Context, j *job, n int, h, z []float32, vocab int) error {
	if numberless(z) {
		j.abort(errNoNumbers)
		return nil
	}
	if j.read < len(j.input) {
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
	j.flush()
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
	if j.read < len(j.input) {
		if j.drafter != nil {
			return j.drafter.Read(ctx, j.input[j.read-n+1:j.read+1], h)
		}
		return nil
	}
	if j.made == 0 {
		s.m.promptTokens.Add(int64(len(j.prompt)))
	}
	if j.most == 0 {
		j.end("length")
		return nil
	}
	if !s.choose(j, z[len(z)-vocab:]) {
		s.leave(j, j.session.Len())
		return nil
	}
	j.flush()
	j.ahead, j.states = append(slices.Clone(j.input[len(j.input)-n+1:]), j.next), h
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
	if j.form != nil {
		if row = j.form.apply(row); row == nil {
			j.flush()
			j.events.put(event{err: errNoToken})
			j.ended = "stop"
			return false
		}
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
	j.step = append(j.step, e)
	switch {
	case slices.Contains(j.stop, j.next):
		j.ended = "stop"
	case j.form != nil && j.form.take(j.next):
		j.ended = "stop"
	case j.meets(j.next):
		j.ended = "stop"
	case j.made == j.most:
		j.ended = "length"
	}
	return j.ended == ""
}

// meets reports whether a token completes a stop string.
func (j *job) meets(token int) bool {
	if j.watch == nil {
		return false
	}
	j.watch.token(token)
	return j.watch.hit
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
