package quant

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/numeric"
)

// stateDir is the folder inside an unfinished result that says what is done.
const (
	stateDir = ".glmconv"
	planFile = "plan"
)

// TensorStats is the quantisation error of one weight.
type TensorStats struct {
	Name   string        `json:"name"`
	Scheme string        `json:"scheme"`
	Stats  numeric.Stats `json:"stats"`
}

// receipt says that a shard is complete and on disk.
type receipt struct {
	Name    string        `json:"name"`
	Size    int64         `json:"size"`
	SHA256  string        `json:"sha256"`
	Tensors []TensorStats `json:"tensors"`
}

func (c *converter) keepReceipt(r *receipt) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return fsx.WriteFile(c.fs, c.state(r.Name+".json"), b)
}

// receipt returns the receipt of a shard, or nil if it is still to do: none,
// or the shard is not there in full.
func (c *converter) receipt(f *File) (*receipt, error) {
	b, err := c.fs.ReadFile(c.state(f.Plan.Name + ".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var r receipt
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, nil // written by a rename: only a damaged disk gets here, redo the shard
	}
	st, err := c.fs.Stat(filepath.Join(c.dst, f.Plan.Name))
	if err != nil || st.Size() != f.Plan.Size || r.Size != f.Plan.Size {
		return nil, nil
	}
	return &r, nil
}

// todo lists the shards of this part that are not complete yet.
func (c *converter) todo() ([]int, error) {
	var out []int
	for i := range c.plan.Files {
		if c.plan.part(i, c.o.Count) != c.o.Index {
			continue
		}
		r, err := c.receipt(&c.plan.Files[i])
		if err != nil {
			return nil, err
		}
		if r == nil {
			out = append(out, i)
		}
	}
	return out, nil
}

// part returns which of count parts (from 1) writes file i: consecutive runs
// of files, cut where the bytes of the source are even.
func (p *Plan) part(i, count int) int {
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
func shortName(it *Item) string {
	t := it.Weight.Tensor
	switch {
	case t.Layer < 0:
		return strings.TrimSuffix(t.Name, ".weight")
	case t.Expert >= 0:
		return fmt.Sprintf("layers.%d experts", t.Layer)
	}
	return fmt.Sprintf("layers.%d", t.Layer)
}
