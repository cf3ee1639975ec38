package recipe

import (
	"fmt"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
)

// nearest is the smallest change of a refused query that works, in words.
func (q *Query) nearest(why *Refusal) string {
	if q.NoNearest {
		return ""
	}
	for _, try := range q.variations(why) {
		if r := try.q.try(); r != nil && r.Refused == nil && !r.Tight {
			return fmt.Sprintf("%s: %s, %s of weights a rank", try.say, r.Degrees, progress.Bytes(r.Memory.Weights.Total()))
		}
	}
	return ""
}

type variation struct {
	say string
	q   Query
}

// variations are changes of a query, the smallest first.
func (q *Query) variations(why *Refusal) []variation {
	var out []variation
	add := func(say string, change func(*Query)) {
		v := *q
		v.NodeIP = nil
		change(&v)
		out = append(out, variation{say, v})
	}
	switch why.Rule {
	case 6, 7:
		add("leave --pp out", func(v *Query) { v.PP, v.TP, v.DP = 0, 0, 0 })
	case 3:
		if q.KV != "auto" {
			add("leave --kv-dtype out", func(v *Query) { v.KV = "auto" })
		}
	case 14:
		add("leave --tools and --reasoning out", func(v *Query) { v.Tools, v.Reasoning = "", "" })
	case 15:
		add("--no-mtp", func(v *Query) { v.MTP = 0 })
	}
	if q.forced() {
		add("leave the degrees to the recipe", func(v *Query) { v.TP, v.EP, v.DP, v.PP = 0, 0, 0, 0 })
	}
	if q.MaxModelLen > 0 {
		for _, n := range []int{131072, 65536, 40960, 32768, 16384, 8192} {
			if n < q.MaxModelLen {
				add(fmt.Sprintf("--max-model-len %d", n), func(v *Query) { v.MaxModelLen = n })
			}
		}
	}
	if q.Concurrency > 1 && why.Rule == 12 {
		for n := q.Concurrency / 2; n >= 1; n /= 2 {
			add(fmt.Sprintf("--concurrency %d", n), func(v *Query) { v.Concurrency = n })
		}
	}
	for _, scheme := range q.otherSchemes() {
		if m := q.as(scheme); m != nil {
			add(fmt.Sprintf("glmconv quantize --scheme %s, then the same recipe", scheme), func(v *Query) { v.Model = m })
		}
	}
	if q.Release.Engine != engine.Ascend {
		other := engine.VLLM
		if q.Release.Engine == engine.VLLM {
			other = engine.SGLang
		}
		add("--engine "+string(other), func(v *Query) { v.Release = engine.Newest(other) })
	}
	if q.Hardware.Device.Vendor == "huawei" && q.Release.Engine != engine.Ascend {
		add("--engine vllm-ascend", func(v *Query) { v.Release = engine.Newest(engine.Ascend) })
	}
	for _, id := range []string{"h200:8", "b200:8"} {
		if hw, err := ParseHardware(id); err == nil && why.Rule == 5 && q.Topology != "pd" {
			add("--hardware "+id, func(v *Query) { v.Hardware, v.Topology = hw, "single" })
		}
	}
	if q.Topology != "pd" {
		for _, n := range q.otherCounts() {
			add(fmt.Sprintf("--hardware %s:%d", q.Hardware.ID, n), func(v *Query) {
				v.Hardware.Devices, v.TP, v.EP, v.DP, v.PP = n, 0, 0, 0, 0
			})
		}
		for _, n := range []int{2, 4} {
			if n > q.Hardware.Nodes && q.Hardware.spec.Node > 0 {
				node := q.Hardware.spec.Node
				add(fmt.Sprintf("--hardware %s:%dx%d", q.Hardware.ID, node, n), func(v *Query) {
					v.Hardware.Devices, v.Hardware.Nodes, v.Topology = node, n, "multi"
				})
			}
		}
	}
	return out
}

// otherCounts are numbers of devices in a node, the nearest first.
func (q *Query) otherCounts() []int {
	var out []int
	for d := 1; d <= 16; d++ {
		for _, n := range []int{q.Hardware.Devices + d, q.Hardware.Devices - d} {
			if n >= 1 && n&(n-1) == 0 && n <= max(q.Hardware.spec.Node, 1) {
				out = append(out, n)
			}
		}
	}
	return out
}

// otherSchemes are what the checkpoint could be quantized to for the device.
func (q *Query) otherSchemes() []string {
	d := q.Hardware.Device
	switch {
	case q.Release.Engine == engine.Ascend && q.Model.Quant == "bf16":
		return []string{"w8a8", "w4a8"}
	case q.Release.Engine == engine.Ascend && q.Model.Quant == "w8a8":
		return []string{"w4a8"}
	case d.Vendor == "nvidia" && d.Capability < 89 && (q.Model.Quant == "bf16" || q.Model.Quant == "fp8"):
		return []string{"w8a8"}
	case q.Model.Quant == "bf16":
		return []string{"fp8"}
	}
	return nil
}

// as estimates the checkpoint quantized by a scheme: bytes by the width of
// codes, scales left out. nil for what is not estimated.
func (m *Model) as(scheme string, e engine.Engine) *Model {
	out := *m
	part := engine.Part{Weight: format.Int8, Acts: format.Int8Token}
	if scheme == "fp8" {
		part = engine.Part{Weight: format.Float8, Acts: format.Float8Token}
	}
	out.Subject.Layout = engine.CompressedTensors
	experts := part
	if e == engine.Ascend {
		out.Subject.Layout = engine.AscendLayout
		part.Scheme, experts.Scheme = "W8A8_DYNAMIC", "W8A8_DYNAMIC"
		if scheme == "w4a8" {
			experts = engine.Part{Weight: format.Int4(128), Acts: format.Int8Token, Scheme: "W4A8_DYNAMIC"}
		}
	}
	s := &out.Subject
	s.Experts, s.Shared, s.Dense, s.Attention, s.Output = experts, part, part, part, part
	if s.Draft == engine.HasDraft && e != engine.Ascend {
		s.DraftExperts = part
	}
	halve := func(w *Weights, experts int64) { w.Routed /= experts; w.Attention /= 2; w.Dense /= 2 }
	from := int64(2) // bytes of a weight now
	if m.Quant == "fp8" || m.Quant == "w8a8" {
		from = 1
	}
	switch {
	case scheme == "w4a8" && from == 2:
		halve(&out.Trunk, 4)
	case scheme == "w4a8":
		out.Trunk.Routed /= 2
	case from == 2:
		halve(&out.Trunk, 2)
		if e != engine.Ascend {
			halve(&out.Draft, 2)
		}
	}
	out.Quant, out.Path = scheme, m.Path+"-"+scheme
	return &out
}
