package recipe

import (
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/quant/engine"
)

// Memory is what one rank has and holds, in bytes. For every rank:
//
//	weights = routed/EP + attention/attnTP + (dense + shared)/TP + vocab/TP + replicated
//	cache   = usable − weights − working
//	tokens  = cache / bytes per token, times the ranks that hold different requests
//
// usable is a fraction of the device (vLLM, vllm-ascend), or the device less a
// reserve (SGLang, whose reserve holds activations too). working is what
// activations, logits, graphs and communicators take. Sources: vllm 0.32
// v1/worker/gpu_worker.py, sglang 0.5.23 srt/server_args.py; docs/facts.
type Memory struct {
	Device   int64   `json:"device"`
	Usable   int64   `json:"usable"`
	Weights  Weights `json:"weights"` // of one rank
	Working  int64   `json:"working"`
	Cache    int64   `json:"cache"`     // left for keys and values; negative: the weights do not fit
	PerToken int64   `json:"per_token"` // of the cache, on one rank
	Needed   int64   `json:"needed"`    // of the cache, for what was asked
	Margin   int64   `json:"margin"`    // the error of these figures
}

// Capacity is what the whole set-up can hold.
type Capacity struct {
	Tokens   int64 `json:"tokens"`
	Requests int64 `json:"requests"` // of Length tokens at once
	Length   int   `json:"length"`
}

// errorShare of a device is the error of the arithmetic: activations and
// communicators are estimated.
const errorShare = 0.06

// share divides, upwards.
func share(n int64, by int) int64 { return (n + int64(by) - 1) / int64(by) }

// rank is what one rank holds of a candidate's weights.
func (c *candidate) rank() Weights {
	w := c.Model.Trunk
	if c.drafts > 0 {
		w = w.plus(c.Model.Draft)
	}
	attention := c.tp
	if c.attnDP > 1 {
		attention = c.tp / c.attnDP
	}
	vision := share(w.Vision, c.tp)
	if c.visionData() {
		vision = w.Vision
	}
	return Weights{
		Routed:     share(w.Routed, c.expertRanks()*c.pp),
		Attention:  share(w.Attention, attention*c.pp),
		Dense:      share(w.Dense, c.tp*c.pp),
		Vocab:      share(w.Vocab, c.tp),
		Replicated: share(w.Replicated, c.pp),
		Vision:     vision,
	}
}

// expertRanks is how many ranks share the routed experts. Without expert
// parallelism each has a slice of every one, with it some whole ones; vLLM and
// vllm-ascend then spread them over all data-parallel ranks.
func (c *candidate) expertRanks() int {
	if c.ep && c.Release.Engine != engine.SGLang {
		return c.tp * c.dp
	}
	return c.tp
}

// visionData reports whether every rank has the whole vision tower.
func (c *candidate) visionData() bool {
	return c.Model.Config.Vision != nil && (c.Release.Engine != engine.SGLang || slices.Contains(c.rowFlags(), "--mm-enable-dp-encoder"))
}

// cacheBytes are the bytes of one token of the cache on one rank. With worst it
// is assumed that layers which share an indexer have a cache of it all the same,
// which no source denies.
func (c *candidate) cacheBytes(worst bool) int64 {
	cfg := c.Model.Config
	layers := cfg.Layers
	if c.drafts > 0 {
		layers += cfg.MTPLayers
	}
	fp8 := c.kv == "fp8"
	switch {
	case !cfg.LatentAttention():
		attnTP := c.tp
		if c.attnDP > 1 {
			attnTP = c.tp / c.attnDP
		}
		n := int64(layers) * 2 * int64(max(1, cfg.KVHeads/attnTP)) * int64(cfg.HeadDim)
		if fp8 {
			return share(n, c.pp)
		}
		return share(2*n, c.pp)
	case !cfg.SparseAttention():
		n := int64(layers) * int64(cfg.KVLoraRank+cfg.QKRopeHeadDim)
		if fp8 {
			return share(n, c.pp)
		}
		return share(2*n, c.pp)
	}
	return share(int64(layers)*c.latentBytes(fp8)+int64(c.indexers(layers, worst))*c.indexBytes(), c.pp)
}

// latentBytes is one layer's latent and rotated key of a token: BF16, or
// fp8_ds_mla (codes, a scale for each 128 of them, the rotated key in BF16), or
// codes alone with TRT-LLM and TileLang kernels.
func (c *candidate) latentBytes(fp8 bool) int64 {
	latent, rope := int64(c.Model.Config.KVLoraRank), int64(c.Model.Config.QKRopeHeadDim)
	switch {
	case !fp8 || c.Release.Engine == engine.Ascend:
		return 2 * (latent + rope)
	case c.flagged("trtllm") || c.flagged("tilelang"):
		return latent + rope
	}
	return latent + latent/128*4 + 2*rope
}

// indexBytes is one indexer's key of a token: FP8 with a F32 scale; BF16 on
// Ascend, int8 with an F16 scale where the checkpoint has C8.
func (c *candidate) indexBytes() int64 {
	n := int64(c.Model.Config.IndexHeadDim)
	switch {
	case c.Release.Engine != engine.Ascend:
		return n + 4
	case c.Model.Subject.IndexerC8:
		return n + 2
	}
	return 2 * n
}

func (c *candidate) indexers(layers int, worst bool) int {
	cfg := c.Model.Config
	if worst {
		return layers
	}
	n := layers - cfg.Layers // the MTP layer has its own
	for _, own := range cfg.IndexerFull {
		if own {
			n++
		}
	}
	return n
}

// batch is --max-num-batched-tokens and --max-num-seqs: ownBatch, or as many as
// the requests that were asked for at once.
func (c *candidate) batch() (tokens, seqs int) {
	tokens, seqs = c.ownBatch()
	seqs = max(seqs, int(share(int64(c.Concurrency), c.dp)))
	return max(tokens, seqs), seqs
}

// ownBatch is a cell's, or vLLM's defaults (0.32, engine/arg_utils.py).
func (c *candidate) ownBatch() (tokens, seqs int) {
	if c.cell != nil && c.cell.BT > 0 {
		return c.cell.BT, c.cell.Seqs
	}
	gib := c.Hardware.Bytes >> 30
	switch {
	case c.Release.Engine == engine.Ascend:
		return 4096, 16
	case gib >= 160:
		return 16384, 1024
	case gib >= 70 && c.Hardware.Device.Capability != 80:
		return 8192, 1024
	}
	return 2048, 256
}

// fraction is --gpu-memory-utilization, or --mem-fraction-static where a cell
// has it; 0: SGLang's own rule.
func (c *candidate) fraction() float64 {
	switch {
	case c.util > 0:
		return c.util
	case c.Release.Engine == engine.SGLang:
		if c.cell != nil {
			for _, f := range c.cell.Flags {
				if v, ok := strings.CutPrefix(f, "--mem-fraction-static "); ok {
					if x, err := strconv.ParseFloat(v, 64); err == nil {
						return x
					}
				}
			}
		}
		return 0
	case c.cell != nil && c.cell.Util > 0:
		return c.cell.Util
	case c.Hardware.Device.Vendor == "amd":
		return table().VLLM.AMD.Utilization
	}
	return 0.92
}

// chunk is SGLang's chunked prefill by memory (0.5.23 srt/server_args.py).
func (c *candidate) chunk() int {
	switch gib := c.Hardware.Bytes >> 30; {
	case gib < 35:
		return 2048
	case gib < 60:
		return 4096
	case gib < 160:
		return 8192
	}
	return 16384
}

// memory lays a rank out.
func (c *candidate) memory() Memory {
	m := Memory{Device: c.Hardware.Bytes, Weights: c.rank(), PerToken: c.cacheBytes(false), Margin: int64(errorShare * float64(c.Hardware.Bytes))}
	if f := c.fraction(); f > 0 {
		m.Usable = int64(f * float64(m.Device))
	} else {
		reserve := int64(512+1.5*float64(max(c.chunk(), 2048))+128*float64(c.tp)) << 20
		if m.Device > 60<<30 {
			reserve = max(reserve, 10240<<20)
		}
		m.Usable = m.Device - reserve
	}
	m.Working = c.working()
	m.Cache = m.Usable - m.Weights.Total() - m.Working
	return m
}

// working estimates activations, logits, graphs and communicators of one rank.
func (c *candidate) working() int64 {
	if c.Release.Engine == engine.SGLang {
		return 0 // in the reserve
	}
	cfg := c.Model.Config
	tokens, seqs := c.batch()
	width := max(cfg.IntermediateSize, cfg.MoEIntermediateSize*cfg.ExpertsPerToken)
	n := int64(tokens)*int64(cfg.HiddenSize*24+2*width) + int64(seqs)*int64(cfg.VocabSize)*4 + 2<<30
	if c.Release.Engine == engine.Ascend {
		n += 2 * int64(c.bufferMiB()) << 20 * 3 // tensor, data and expert communicators
	}
	return n
}

// needed is the cache that one rank must have for the requests asked for.
func (c *candidate) needed(length int) int64 {
	requests := max(c.Concurrency, 1)
	return share(int64(requests), c.spread()) * int64(length) * c.cacheBytes(true)
}

// spread is the number of ranks, or groups of them, that hold different
// requests.
func (c *candidate) spread() int { return c.dp * max(c.attnDP, 1) }

// longest is the largest length, in steps of 1,024, that as many requests as
// asked can have at once.
func (c *candidate) longest(m Memory) int {
	each := share(int64(max(c.Concurrency, 1)), c.spread()) * c.cacheBytes(true)
	if m.Cache <= 0 || each <= 0 {
		return 0
	}
	free := m.Cache
	if safe := free - m.Margin; safe/each >= leastContext { // rather a safe length than the last token
		free = safe
	}
	return int(min(free/each/1024*1024, int64(c.Model.Config.MaxPositions)))
}
