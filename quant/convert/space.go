package convert

import (
	"fmt"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/quant"
)

// checkSpace refuses a conversion that the disk cannot hold before its first
// byte is written.
func (c *converter) checkSpace(todo []int) error {
	var need int64
	for _, i := range todo {
		need += c.plan.Files[i].Plan.Size
	}
	for _, s := range c.plan.Sidecars {
		need += s.Size
	}
	free := int64(-1) // a bucket does not say
	if _, ok := c.fs.(fsx.Remote); !ok {
		free = freeSpace(c.dst)
	}
	if free < 0 || need <= free {
		return nil
	}
	return &quant.Error{Kind: ErrSpace, Reason: fmt.Sprintf("%s has %s free, the result needs %s more", c.dst, progress.Bytes(free), progress.Bytes(need)),
		Advice: "free some space or choose another disk; nothing was written"}
}
