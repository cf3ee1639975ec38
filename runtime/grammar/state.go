package grammar

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// maxStates bounds what a grammar remembers; more, and it begins anew.
const maxStates = 1 << 11

// Grammar finds the states of an expression. It is not safe for concurrent use.
type Grammar struct {
	root   *Expr
	items  map[itemKey]*item
	states map[string]*State
	masks  map[*State][]uint64
	count  int // of items, forgotten ones too: ids stay unique
}

// New makes the grammar of an expression.
func New(e *Expr) *Grammar {
	g := &Grammar{root: e}
	g.forget()
	return g
}

func (g *Grammar) forget() {
	g.items, g.states, g.masks = map[itemKey]*item{}, map[string]*State{}, map[*State][]uint64{}
}

// item is a place in an expression, and where it goes on behind: a stack that
// others share. n is the part of a sequence, or the round of a repetition.
type item struct {
	itemKey
	id int
}

type itemKey struct {
	e  *Expr
	n  int
	up *item
}

// State is all that a text up to here may be in the middle of.
type State struct {
	at    []*item // bytes and marks that may come
	done  bool
	next  [256]*State
	known [4]uint64
	marks map[int]*State
}

// Done reports whether the text may end here.
func (s *State) Done() bool { return s.done }

// Final reports whether it must.
func (s *State) Final() bool { return s.done && len(s.at) == 0 }

// Start is the state of an empty text.
func (g *Grammar) Start() *State {
	c := g.closure()
	c.enter(g.root, nil)
	return c.state()
}

// closure collects the places that are reached without a symbol.
type closure struct {
	g    *Grammar
	seen map[itemKey]bool
	at   []*item
	done bool
}

func (g *Grammar) closure() *closure { return &closure{g: g, seen: map[itemKey]bool{}} }

func (g *Grammar) item(e *Expr, n int, up *item) *item {
	k := itemKey{e, n, up}
	i := g.items[k]
	if i == nil {
		i = &item{k, g.count}
		g.count++
		g.items[k] = i
	}
	return i
}

// enter goes to where e begins; behind it up goes on.
func (c *closure) enter(e *Expr, up *item) {
	k := itemKey{e, -1, up}
	if c.seen[k] {
		return
	}
	c.seen[k] = true
	switch e.kind {
	case isSet, isMark:
		c.at = append(c.at, c.g.item(e, 0, up))
	case isChoice:
		for _, x := range e.list {
			c.enter(x, up)
		}
	default:
		c.resume(e, 0, up)
	}
}

// resume goes on with a sequence or a repetition of which n parts are done.
func (c *closure) resume(e *Expr, n int, up *item) {
	if e.kind == isSeq {
		if n == len(e.list) {
			c.leave(up)
			return
		}
		if n == len(e.list)-1 { // nothing is left behind the last part: no place is kept of it
			c.enter(e.list[n], up)
			return
		}
		c.enter(e.list[n], c.g.item(e, n+1, up))
		return
	}
	if e.hi < 0 {
		n = min(n, e.lo) // more rounds than are needed are all alike
	}
	k := itemKey{e, n, up}
	if c.seen[k] {
		return
	}
	c.seen[k] = true
	if e.hi < 0 || n < e.hi {
		c.enter(e.list[0], c.g.item(e, n+1, up))
	}
	if n >= e.lo {
		c.leave(up)
	}
}

func (c *closure) leave(up *item) {
	if up == nil {
		c.done = true
		return
	}
	c.resume(up.e, up.n, up.up)
}

// state is the state of what was collected.
func (c *closure) state() *State {
	slices.SortFunc(c.at, func(a, b *item) int { return cmp.Compare(a.id, b.id) })
	c.at = slices.Compact(c.at)
	key := make([]byte, 0, 8*len(c.at)+1)
	for _, i := range c.at {
		key = binary.AppendUvarint(key, uint64(i.id))
	}
	if c.done {
		key = append(key, 0xff)
	}
	s := c.g.states[string(key)]
	if s == nil {
		if len(c.g.states) >= maxStates {
			c.g.forget()
		}
		s = &State{at: c.at, done: c.done}
		c.g.states[string(key)] = s
	}
	return s
}

// byte is the state behind a byte; nil: it may not come.
func (g *Grammar) byte(s *State, b byte) *State {
	if s.known[b/64]>>(b%64)&1 == 0 {
		s.known[b/64] |= 1 << (b % 64)
		s.next[b] = g.behind(s, func(e *Expr) bool { return e.kind == isSet && e.set[b/64]>>(b%64)&1 == 1 })
	}
	return s.next[b]
}

// marked is the state behind an added token; nil: it may not come.
func (g *Grammar) marked(s *State, id int) *State {
	to, ok := s.marks[id]
	if !ok && slices.ContainsFunc(s.at, func(i *item) bool { return i.e.kind == isMark }) {
		if s.marks == nil {
			s.marks = map[int]*State{}
		}
		to = g.behind(s, func(e *Expr) bool { return e.kind == isMark && e.mark == id })
		s.marks[id] = to
	}
	return to
}

func (g *Grammar) behind(s *State, takes func(*Expr) bool) *State {
	c := g.closure()
	for _, i := range s.at {
		if takes(i.e) {
			c.leave(i.up)
		}
	}
	if !c.done && len(c.at) == 0 {
		return nil
	}
	return c.state()
}
