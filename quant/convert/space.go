package convert

import (
	"fmt"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/quant"
)

// freeOn says how much may be written to the file system of a folder; -1 if
// nobody can tell. Tests replace it.
var freeOn = freeSpace

// checkFresh is checkSpace for a destination that is empty or not there, before
// anything is made in it. where is the lowest folder that exists.
func (c *converter) checkFresh(where string) error {
	var all []int
	for i := range c.plan.Files {
		if part(c.plan, i, c.o.Count) == c.o.Index {
			all = append(all, i)
		}
	}
	return c.checkSpace(all, where, false)
}

// checkSpace refuses a conversion that the disk of a folder cannot hold before
// the first byte of its shards in todo is written. begun tells that the
// destination is an unfinished conversion already.
func (c *converter) checkSpace(todo []int, where string, begun bool) error {
	var need int64
	for _, i := range todo {
		need += c.plan.Files[i].Plan.Size
	}
	for _, s := range c.plan.Sidecars {
		need += s.Size
	}
	free := int64(-1) // a bucket does not say
	if _, ok := c.fs.(fsx.Remote); !ok {
		free = freeOn(where)
	}
	if free < 0 || need <= free {
		return nil
	}
	e := &quant.Error{Kind: ErrSpace, Reason: fmt.Sprintf("%s has %s free, the result needs %s more", c.dst, progress.Bytes(free), progress.Bytes(need)),
		Advice: "free some space or choose another disk; nothing was written", Resumable: begun}
	if begun {
		kept, _ := c.kept()
		e.Advice = kept + "; free some space and resume to go on"
	}
	return e
}
