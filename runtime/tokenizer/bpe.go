package tokenizer

import "container/heap"

// pair is two adjacent token ids, left in the high half.
type pair uint64

func pairOf(left, right int32) pair { return pair(uint32(left))<<32 | pair(uint32(right)) }

// merge is what a pair becomes, and how early.
type merge struct{ rank, id int32 }

// piece appends the ids of one piece of pre-tokenized text.
func (e *encoder) piece(piece string) {
	if e.ignoreMerges {
		if id, ok := e.Tokenizer.ids[piece]; ok {
			e.ids = append(e.ids, int(id))
			return
		}
	}
	if len(piece) == 1 {
		e.ids = append(e.ids, int(e.bytes[piece[0]]))
		return
	}
	e.merge(piece)
}

// symbol is a node of the list of symbols that are left of a piece.
type symbol struct {
	id         int32
	prev, next int32 // -1 at the ends
}

// candidate is a possible merge of the symbol at pos with its right neighbour.
type candidate struct {
	merge
	pos   int32
	width pair // the pair that was seen; stale when the symbols have changed
}

type candidates []candidate

func (c candidates) Len() int { return len(c) }
func (c candidates) Less(i, j int) bool {
	return c[i].rank < c[j].rank || c[i].rank == c[j].rank && c[i].pos < c[j].pos
}
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *candidates) Push(x any)   { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	old := *c
	x := old[len(old)-1]
	*c = old[:len(old)-1]
	return x
}

// merge merges the bytes of a piece by rank; a heap keeps long pieces from
// taking quadratic time.
func (e *encoder) merge(piece string) {
	syms := make([]symbol, len(piece))
	for i := range syms {
		syms[i] = symbol{id: e.bytes[piece[i]], prev: int32(i - 1), next: int32(i + 1)}
	}
	syms[len(syms)-1].next = -1
	var queue candidates
	consider := func(i int32) {
		if i < 0 || syms[i].next < 0 {
			return
		}
		p := pairOf(syms[i].id, syms[syms[i].next].id)
		if m, ok := e.merges[p]; ok {
			queue = append(queue, candidate{merge: m, pos: i, width: p})
		}
	}
	for i := range syms {
		if !e.work(1) {
			return
		}
		consider(int32(i))
	}
	heap.Init(&queue)
	for queue.Len() > 0 && e.work(1) {
		c := heap.Pop(&queue).(candidate)
		left := &syms[c.pos]
		if left.id < 0 || left.next < 0 || pairOf(left.id, syms[left.next].id) != c.width {
			continue // one of the two has been merged meanwhile
		}
		right := &syms[left.next]
		left.id, left.next = c.id, right.next
		right.id = -1
		if left.next >= 0 {
			syms[left.next].prev = c.pos
		}
		n := len(queue)
		consider(left.prev)
		consider(c.pos)
		for ; n < len(queue); n++ {
			heap.Fix(&queue, n) // an appended element only moves up
		}
	}
	for i := int32(0); i >= 0; i = syms[i].next {
		e.ids = append(e.ids, int(syms[i].id))
	}
}
