package serve

import (
	"slices"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
)

// page is how many tokens of a prompt are found together.
const page = 16

// prefix is a sequence that was computed, kept for prompts that begin alike.
type prefix struct {
	ids     []int
	session *runtime.Session
	drafter *spec.Drafter // nil: none
}

// prefixes are kept as long as the budget of the cache has room: those that were
// of use last stay.
type prefixes struct {
	list  []*prefix // oldest first
	slots int
}

// find returns the prefix that has most of a prompt, and how many tokens of it:
// whole pages, and not the last token, whose logits are wanted.
func (p *prefixes) find(prompt []int) (*prefix, int) {
	best, at := 0, -1
	for i, k := range p.list {
		n := 0
		for n < len(k.ids) && n < len(prompt)-1 && k.ids[n] == prompt[n] {
			n++
		}
		if k.drafter != nil { // its last slot read the token behind, which may be another
			n = max(n-1, 0)
		}
		if n = n / page * page; n > best {
			best, at = n, i
		}
	}
	if at < 0 {
		return nil, 0
	}
	k := p.list[at]
	p.list = append(slices.Delete(p.list, at, at+1), k)
	return k, best
}

// put keeps a sequence in place of those that it begins with.
func (p *prefixes) put(k *prefix) {
	p.list = slices.DeleteFunc(p.list, func(o *prefix) bool {
		if len(o.ids) <= len(k.ids) && slices.Equal(o.ids, k.ids[:len(o.ids)]) {
			p.slots -= o.session.Len()
			return true
		}
		return false
	})
	p.list = append(p.list, k)
	p.slots += k.session.Len()
}

// shrink forgets the oldest until the rest takes no more than some slots.
func (p *prefixes) shrink(slots int) {
	for len(p.list) > 0 && p.slots > max(slots, 0) {
		p.slots -= p.list[0].session.Len()
		p.list[0] = nil
		p.list = p.list[1:]
	}
}
