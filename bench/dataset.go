package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// RandomOptions are the lengths of random prompts, in tokens.
type RandomOptions struct {
	Prompts, In, Out int
	Ratio            float64
	Prefix           int // tokens that all prompts begin with, before In
	// SGLang draws lengths as SGLang's client does: from ⌊L·ratio⌋ to L, so
	// that ratio 0 halves them on average. Otherwise as vLLM's: within
	// L(1 ± ratio), so that 0 is exact.
	SGLang bool
	Seed   uint64
	Vocab  int
}

// Random makes prompts of consecutive ids from a random offset. With a
// tokenizer they are given as text as well, decoded and encoded until the count
// holds, ten times at most.
func Random(o RandomOptions, tok *tokenizer.Tokenizer) []Prompt {
	rnd := rand.New(rand.NewPCG(o.Seed, 1))
	out := make([]Prompt, o.Prompts)
	prefix := make([]int, o.Prefix)
	for i := range prefix {
		prefix[i] = rnd.IntN(o.Vocab)
	}
	for i := range out {
		ids := append(slices.Clone(prefix), make([]int, o.length(rnd, o.In))...)
		at := rnd.IntN(o.Vocab)
		for j := range ids[len(prefix):] {
			ids[len(prefix)+j] = (at + j) % o.Vocab
		}
		out[i] = Prompt{IDs: ids, Out: o.length(rnd, o.Out)}
		if tok != nil {
			out[i].Text, out[i].IDs = fit(tok, ids)
			out[i].Missed = len(out[i].IDs) - len(ids)
		}
	}
	return out
}

func (o *RandomOptions) length(rnd *rand.Rand, n int) int {
	lo, hi := int(math.Floor(float64(n)*(1-o.Ratio))), int(math.Ceil(float64(n)*(1+o.Ratio)))
	if o.SGLang {
		lo, hi = int(float64(n)*o.Ratio), n
	}
	lo = max(lo, 1)
	return lo + rnd.IntN(max(hi-lo+1, 1))
}

// fit finds a text that encodes to as many tokens as ids.
func fit(tok *tokenizer.Tokenizer, ids []int) (string, []int) {
	want := len(ids)
	text := ""
	for range 10 {
		text = tok.Decode(ids)
		got := tok.EncodeOrdinary(text)
		switch {
		case len(got) == want:
			return text, got
		case len(got) > want:
			ids = got[:want]
		default:
			ids = append(got, ids[:min(want-len(got), len(ids))]...)
		}
	}
	return text, tok.EncodeOrdinary(text)
}

// Lines reads one JSON object a line: prompt (with images, a list of URLs) or
// messages, max_tokens where it differs from out; for scores answer, a text or a
// number, and id, without which the line's number is taken.
func Lines(data []byte, out int) ([]Prompt, error) {
	var list []Prompt
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		var l struct {
			ID       any
			Prompt   string
			Messages []any
			Images   []string
			Answer   any
			Max      int `json:"max_tokens"`
		}
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrFormat, n, err)
		}
		p := Prompt{Text: l.Prompt, Images: l.Images, Out: l.Max, ID: plain(l.ID), Answer: plain(l.Answer)}
		if p.Text == "" && len(l.Messages) > 0 {
			p.Messages = l.Messages
			last, _ := l.Messages[len(l.Messages)-1].(map[string]any)
			p.Text, _ = last["content"].(string)
		}
		if p.Text == "" && p.Messages == nil {
			return nil, fmt.Errorf("%w: line %d has neither prompt nor messages", ErrFormat, n)
		}
		if p.Out <= 0 {
			p.Out = out
		}
		if p.ID == "" {
			p.ID = strconv.Itoa(n)
		}
		list = append(list, p)
	}
	return list, s.Err()
}

// plain is a text or a number as text.
func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return ""
}

// ShareGPT reads conversations and takes the same n as `vllm bench serve` does:
// shuffled by Python's random with the seed, prompts of 4 to 1,024 tokens,
// answers of at least 4, 2,048 in all.
func ShareGPT(data []byte, n int, seed uint32, count func(string) int) ([]Prompt, error) {
	var all []struct {
		Conversations []struct{ Value string }
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	kept := all[:0]
	for _, c := range all {
		if len(c.Conversations) >= 2 {
			kept = append(kept, c)
		}
	}
	newTwister(seed).shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
	var out []Prompt
	for _, c := range kept {
		if len(out) == n {
			break
		}
		p := c.Conversations[0].Value
		in, answer := count(p), count(c.Conversations[1].Value)
		if in < 4 || answer < 4 || in > 1024 || in+answer > 2048 {
			continue
		}
		out = append(out, Prompt{Text: p, Out: answer})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no conversation of the lengths that are measured", ErrFormat)
	}
	return out, nil
}

// twister is MT19937 as Python's random seeds and uses it (Matsumoto and
// Nishimura 1998; CPython Modules/_randommodule.c).
type twister struct {
	s [624]uint32
	i int
}

func newTwister(seed uint32) *twister {
	t := &twister{i: 624}
	t.s[0] = 19650218
	for i := uint32(1); i < 624; i++ {
		t.s[i] = 1812433253*(t.s[i-1]^t.s[i-1]>>30) + i
	}
	i := 1
	next := func() {
		if i++; i >= 624 {
			t.s[0], i = t.s[623], 1
		}
	}
	for range 624 { // the key is one word, the seed
		t.s[i] = (t.s[i] ^ (t.s[i-1]^t.s[i-1]>>30)*1664525) + seed
		next()
	}
	for range 623 {
		t.s[i] = (t.s[i] ^ (t.s[i-1]^t.s[i-1]>>30)*1566083941) - uint32(i)
		next()
	}
	t.s[0] = 0x80000000
	return t
}

func (t *twister) word() uint32 {
	if t.i >= 624 {
		for k := range 624 {
			y := t.s[k]&0x80000000 | t.s[(k+1)%624]&0x7fffffff
			t.s[k] = t.s[(k+397)%624] ^ y>>1
			if y&1 != 0 {
				t.s[k] ^= 0x9908b0df
			}
		}
		t.i = 0
	}
	y := t.s[t.i]
	t.i++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// below draws a number below n: bits until one is small enough.
func (t *twister) below(n int) int {
	bits := 0
	for x := n; x > 0; x >>= 1 {
		bits++
	}
	for {
		if r := int(t.word() >> (32 - bits)); r < n {
			return r
		}
	}
}

// shuffle is random.shuffle.
func (t *twister) shuffle(n int, swap func(i, j int)) {
	for i := n - 1; i > 0; i-- {
		swap(i, t.below(i+1))
	}
}
