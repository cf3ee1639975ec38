package quant

import (
	"cmp"
	"iter"
	"slices"

	"github.com/glmconv/glmconv/safetensors"
)

// maxSpool bounds what the odd-sized outputs of one file may hold in memory
// until they are written at its end.
const maxSpool = 64 << 20

// Outputs lists the tensors that an item becomes, in the order of their data. They
// are made anew by each call: a plan of the largest models keeps none of their
// names.
func (p *Plan) Outputs(it *Item) []safetensors.Spec {
	if it.Action == Drop {
		return nil
	}
	return p.lay.Outputs(it.Weight)
}

// cut fills shards in table order: a shard is closed before the item that
// would take it past the size asked for.
func (p *Plan) cut() (groups [][]int) {
	var pending int64
	var g []int
	for i := range p.Items {
		if p.Items[i].Action == Drop {
			continue
		}
		var size int64
		for _, o := range p.Outputs(&p.Items[i]) {
			size += o.Bytes()
		}
		if len(g) > 0 && pending+size >= p.Options.ShardSize {
			groups, g, pending = append(groups, g), nil, 0
		}
		g, pending = append(g, i), pending+size
	}
	if len(g) > 0 {
		groups = append(groups, g)
	}
	return groups
}

// layFile orders the outputs of one file: a weight and its companions side by
// side, odd-sized ones last, so that everything is aligned and the file can be
// written front to back (docs/decisions/0002-file-order.md).
func (p *Plan) layFile(number int, name string, items []int) (err error) {
	type late struct {
		ref  OutputRef
		spec safetensors.Spec
	}
	var tail []late
	var next, spool int64
	specs := make([]safetensors.Spec, 0, 4*len(items))
	for _, i := range items {
		it := &p.Items[i]
		it.File, it.At = number, next
		for k, o := range p.Outputs(it) {
			size := o.Bytes()
			if size < 0 {
				return fail(ErrSource, "", "tensor %s would be %v of %s, which overflows", o.Name, o.Shape, o.DType)
			}
			if k == 0 {
				it.First = size
			}
			it.Outputs, it.Written = k+1, it.Written+size
			if size%8 != 0 {
				tail = append(tail, late{OutputRef{i, k}, o})
				spool += size
				continue
			}
			specs, next = append(specs, o), next+size
		}
	}
	if spool > maxSpool {
		return fail(ErrSource, "", "%s: %d MB of tensors with sizes that are no multiple of 8 bytes cannot be aligned", name, spool>>20)
	}
	slices.SortStableFunc(tail, func(a, b late) int { return cmp.Compare(b.spec.DType.Bits(), a.spec.DType.Bits()) })
	f := &p.Files[number]
	f.Items = items
	for _, o := range tail {
		f.Tail, specs = append(f.Tail, o.ref), append(specs, o.spec)
	}
	if f.Plan, err = safetensors.PlanSpecs(name, p.specs(f, &specs), nil); err != nil {
		return err
	}
	if err := f.index.Add(name, specs); err != nil {
		return err
	}
	specs = nil
	for _, i := range items {
		p.Items[i].At += f.Plan.HeaderSize()
	}
	return nil
}

// specs goes through the tensors of a file in the order of their data: those in
// ready while they are there, else made anew.
func (p *Plan) specs(f *File, ready *[]safetensors.Spec) iter.Seq[safetensors.Spec] {
	return func(yield func(safetensors.Spec) bool) {
		if *ready != nil {
			slices.Values(*ready)(yield)
			return
		}
		for _, i := range f.Items {
			for _, o := range p.Outputs(&p.Items[i]) {
				if o.Bytes()%8 == 0 && !yield(o) {
					return
				}
			}
		}
		for _, o := range f.Tail {
			if !yield(p.Outputs(&p.Items[o.Item])[o.Output]) {
				return
			}
		}
	}
}

// measureIndex counts the bytes of the shards and of their index.
func (p *Plan) measureIndex() error {
	var size safetensors.IndexSize
	for i := range p.Files {
		f := &p.Files[i]
		p.ResultBytes += f.Plan.Size
		size.Join(&f.index)
	}
	if size.Repeats() { // or two names with one hash
		if _, err := p.Index(); err != nil {
			return err
		}
	}
	p.indexSize = size.Bytes()
	return nil
}

// Index writes the index. A plan does not keep the text, which is longer than all
// else that is in it for the largest models.
func (p *Plan) Index() ([]byte, error) { return safetensors.EncodeIndex(p.entries()) }

// entries are those of the index, and the bytes of all tensors.
func (p *Plan) entries() (entries []safetensors.IndexEntry, total int64) {
	n := 0
	for _, f := range p.Files {
		n += f.Plan.Len()
	}
	entries = make([]safetensors.IndexEntry, 0, n)
	for _, f := range p.Files {
		for _, t := range f.Plan.Tensors() {
			entries = append(entries, safetensors.IndexEntry{Tensor: t.Name, File: f.Plan.Name})
			total += t.Size
		}
	}
	return entries, total
}
