package convert

import (
	"runtime"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/rotation"
)

const (
	// tileElements is how many weights are computed at once: large enough to
	// make the pipeline's overhead vanish, small enough that a tile, its F32
	// copy and its codes stay in a core's cache hierarchy.
	tileElements = 512 << 10
	// copyBytes is the piece in which tensors that stay as they are move.
	copyBytes = 2 << 20
	// maxLanes is how many shards are written side by side at most. A lane
	// hashes on one core.
	maxLanes = 8
	// baseMemory is what the process needs beside buffers: code, plan, headers.
	baseMemory = 64 << 20
	// itemMemory is what a plan holds for each tensor.
	itemMemory = 2 << 10
)

// tileRows returns how many rows of a weight make a tile.
func tileRows(p *quant.Plan, it *quant.Item) int {
	n, k := it.Weight.Dims()
	align := 1
	if it.Action == quant.Quantize {
		align = p.Layout().RowAlign(it.Weight, p.Options.Arith)
	}
	if align == 0 {
		return n
	}
	if it.Stored != nil {
		align = leastCommonMultiple(align, it.Stored.RowAlign())
	}
	if p.Options.Rotation != nil && tileElements/max(k, 1) >= rotation.BlockRows {
		align = leastCommonMultiple(align, rotation.BlockRows)
	}
	rows := max(tileElements/max(k, 1)/align, 1) * align
	return min(rows, max(n, 1))
}

func leastCommonMultiple(a, b int) int {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// tileCost estimates the bytes that a tile holds until it is written and hashed,
// and those of a worker's scratch while it is read and computed.
func tileCost(p *quant.Plan, it *quant.Item) (flight, scratch int64) {
	if it.Action != quant.Quantize && it.Stored == nil {
		if it.Action == quant.Copy || it.Action == quant.Alias || it.Action == quant.Make {
			return copyBytes * 3, 0
		}
		return copyBytes * 3, copyBytes * 3 // widening doubles
	}
	_, k := it.Weight.Dims()
	elements := int64(tileRows(p, it)) * int64(k)
	if it.Action != quant.Quantize {
		return elements*2 + 64<<10, elements * 6
	}
	return elements*5/4 + 64<<10, elements * (7 + int64(it.Source.DType.Bits()/8))
}

// largest returns the highest costs over all items.
func largest(p *quant.Plan) (flight, scratch, spool int64) {
	for i := range p.Items {
		f, s := tileCost(p, &p.Items[i])
		flight, scratch = max(flight, f), max(scratch, s)
		spool = max(spool, p.Items[i].Written-p.Items[i].First) // its companions
	}
	return flight, scratch, spool
}

// minMemory is the least Options.MaxMemory that the plan can keep.
func minMemory(p *quant.Plan) int64 {
	flight, scratch, spool := largest(p)
	return fixedMemory(p) + 2*flight + scratch + 2*spool
}

func fixedMemory(p *quant.Plan) int64 { return baseMemory + int64(len(p.Items))*itemMemory }

// lanes returns how many of n shards are written side by side, and the bytes
// that each may have in flight. There are two or more, so that one's hashing and
// fsync overlap with another's reading, half as many as workers on machines
// where hashing on two cores would be the limit, and no more than memory is for.
func lanes(p *quant.Plan, o Options, n int) (lanes int, budget int64) {
	flight, scratch, spool := largest(p)
	free := o.MaxMemory/10*7 - fixedMemory(p) - scratch*int64(o.Workers)
	// Every worker busy, some tiles being written, some hashed.
	want := flight * int64(2*o.Workers+8)
	for lanes = max(min(o.Workers, max(2, o.Workers/2), maxLanes, n), 1); ; lanes-- {
		budget = min(free/int64(lanes)-2*spool, want)
		if lanes <= 2 || budget >= 4*flight {
			return lanes, max(budget, 2*flight)
		}
	}
}

// PeakMemory estimates the bytes of memory a conversion takes at its peak.
func PeakMemory(p *quant.Plan, o Options) int64 {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.MaxMemory <= 0 {
		o.MaxMemory = 1 << 30
	}
	_, scratch, spool := largest(p)
	lanes, budget := lanes(p, o, len(p.Files))
	need := fixedMemory(p) + int64(lanes)*(budget+2*spool) + scratch*int64(o.Workers) + keptMemory(p, o, lanes, budget)
	return min(need*5/4, o.MaxMemory) // the collector's slack
}
