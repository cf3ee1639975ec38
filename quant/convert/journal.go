package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
)

// planFile is the file of the state folder that ties a result to its plan.
const planFile = "plan"

// receipt says that a shard is complete and on disk.
type receipt struct {
	Name    string        `json:"name"`
	Size    int64         `json:"size"`
	SHA256  string        `json:"sha256"`
	Tensors []tensorStats `json:"tensors"`
	Sum     string        `json:"xxh3"`   // of the source's bytes that went into the shard (package bytesum)
	Source  []sourceFile  `json:"source"` // the files that they came from
	Zeros   []quant.Zeros `json:"zeros,omitempty"`
}

func (c *converter) keepReceipt(r *receipt) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return fsx.WriteFile(c.fs, c.state(r.Name+".json"), b)
}

// receipt returns the receipt of a shard, or nil if it is still to do: none, an
// unreadable one, the shard is not there in full, or the source has other bytes
// now.
func (c *converter) receipt(ctx context.Context, f *quant.File) (*receipt, error) {
	b, err := c.fs.ReadFile(c.state(f.Plan.Name + ".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	r := c.parseReceipt(b, f)
	if r == nil {
		return nil, nil // written by a rename: only a damaged disk gets here, redo the shard
	}
	st, err := c.fs.Stat(filepath.Join(c.dst, f.Plan.Name))
	if err != nil || st.Size() != f.Plan.Size {
		return nil, nil
	}
	if same, err := c.ofThisSource(ctx, f, r); err != nil || !same {
		return nil, err
	}
	return r, nil
}

// parseReceipt reads a receipt; nil where it is none of this shard.
func (c *converter) parseReceipt(b []byte, f *quant.File) *receipt {
	var r receipt
	if err := json.Unmarshal(b, &r); err != nil || !c.describes(&r, f) {
		return nil
	}
	return &r
}

// describes reports whether a receipt fits the shard as it is planned.
func (c *converter) describes(r *receipt, f *quant.File) bool {
	if r.Name != f.Plan.Name || r.Size != f.Plan.Size || len(r.SHA256) != 2*sha256.Size {
		return false
	}
	n := 0
	for _, i := range f.Items {
		it := &c.plan.Items[i]
		if it.Action != quant.Quantize {
			continue
		}
		if n >= len(r.Tensors) || r.Tensors[n].Name != it.Name() || r.Tensors[n].Scheme != it.Scheme {
			return false
		}
		n++
	}
	return n == len(r.Tensors)
}

// receipts returns the receipts of all shards, or the names of those that are
// still to do, in whatever part.
func (c *converter) receipts(ctx context.Context) (list []*receipt, pending []string, err error) {
	all := make([]*receipt, len(c.plan.Files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.Workers)
	if _, ok := c.fs.(fsx.Remote); ok {
		g.SetLimit(16) // requests that wait
	}
	for i := range c.plan.Files {
		g.Go(func() (err error) {
			all[i], err = c.receipt(ctx, &c.plan.Files[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	for i, r := range all {
		if r == nil {
			pending = append(pending, c.plan.Files[i].Plan.Name)
			continue
		}
		list = append(list, r)
	}
	return list, pending, nil
}

// todo lists the shards of this part that are not complete yet. On Resume it
// reads the finished ones again: what a disk or a person changed since is
// written anew.
func (c *converter) todo(ctx context.Context) ([]int, error) {
	todo := make([]bool, len(c.plan.Files))
	_, remote := c.fs.(fsx.Remote) // whose objects nobody can change in place
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.Workers)
	for i := range c.plan.Files {
		f := &c.plan.Files[i]
		if part(c.plan, i, c.o.Count) != c.o.Index {
			continue
		}
		g.Go(func() error {
			r, err := c.receipt(ctx, f)
			if err == nil && r != nil && c.o.Resume && !remote {
				r, err = c.rehash(ctx, r)
			}
			todo[i] = r == nil
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []int
	for i, do := range todo {
		if !do {
			continue
		}
		out = append(out, i)
		for _, k := range c.plan.Files[i].Items {
			c.total += c.plan.Items[k].Bytes
		}
	}
	return out, nil
}

// rehash returns r if the shard still has its hash, nil if not. The receipt of
// a shard that has changed is removed, so that no other part trusts it.
func (c *converter) rehash(ctx context.Context, r *receipt) (*receipt, error) {
	in, err := os.Open(filepath.Join(c.dst, r.Name))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	h, buf := sha256.New(), make([]byte, copyBytes)
	c.report(0, "checking "+r.Name)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := in.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
	}
	if hex.EncodeToString(h.Sum(nil)) == r.SHA256 {
		return r, nil
	}
	return nil, c.fs.Remove(c.state(r.Name + ".json"))
}

// part returns which of count parts (from 1) writes file i: consecutive runs
// of files, cut where the bytes of the source are even.
func part(p *quant.Plan, i, count int) int {
	var before, total int64
	for j := range p.Files {
		for _, k := range p.Files[j].Items {
			if j < i {
				before += p.Items[k].Bytes
			}
			total += p.Items[k].Bytes
		}
	}
	if total == 0 {
		return 1
	}
	var own int64
	for _, k := range p.Files[i].Items {
		own += p.Items[k].Bytes
	}
	return min(int(float64(before+own/2)/float64(total)*float64(count))+1, count)
}

// shortName shortens a tensor's name for a progress line: "layers.24 experts".
func shortName(it *quant.Item) string {
	t := it.Weight.Tensor
	switch {
	case t.Layer < 0:
		return strings.TrimSuffix(t.Name, ".weight")
	case t.Expert >= 0:
		return fmt.Sprintf("layers.%d experts", t.Layer)
	}
	return fmt.Sprintf("layers.%d", t.Layer)
}
