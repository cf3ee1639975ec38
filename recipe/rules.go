package recipe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
)

// rule refuses candidates. The numbers are those of docs/cli.md.
type rule struct {
	n      int
	source string
	check  func(*candidate) string
}

// rules in the order in which they are asked: what says most of the cause comes
// before what follows from it.
var rules = []rule{
	{10, "docs/facts/engine-vllm.md, docs/facts/engine-sglang.md", (*candidate).wrongDevices},
	{2, "docs/facts/engine-sglang.md 1", (*candidate).noFP8},
	{3, "docs/facts/engine-vllm-ascend.md", (*candidate).ascendFP8},
	{3, "docs/facts/ascend.md", (*candidate).ascendCache},
	{4, "docs/facts/engine-vllm.md 6, docs/facts/formats.md", (*candidate).noFP4},
	{5, "data/hardware.yaml", (*candidate).noSparse},
	{8, "docs/facts/engine-vllm.md", (*candidate).doesNotDivide},
	{1, "quant/engine", (*candidate).doesNotLoad},
	{6, "docs/facts/engine-sglang.md", (*candidate).sglangPipeline},
	{7, "vLLM 0.32 model_executor/models/glm4_moe_mtp.py", (*candidate).vllmPipeline},
	{9, "SGLang 0.5.23 srt/server_args.py", (*candidate).sglangDegrees},
	{14, "vLLM 0.32 and SGLang 0.5.23 parsers", (*candidate).unknownParser},
	{15, "docs/facts/families.md 5.3", (*candidate).noDraft},
	{12, "recipe: memory", (*candidate).doesNotFit},
}

// order is the numbers of rules in their order, 11 for prefill and decode last.
var order = func() []int {
	var out []int
	for _, r := range rules {
		if !slices.Contains(out, r.n) {
			out = append(out, r.n)
		}
	}
	return append(out, 11)
}()

// judge asks the rules.
func (c *candidate) judge() *Refusal {
	for _, r := range rules {
		if detail := r.check(c); detail != "" {
			return &Refusal{Rule: r.n, Source: r.source, Detail: detail}
		}
	}
	return nil
}

func (c *candidate) wrongDevices() string {
	if c.tp*c.pp > c.Hardware.Devices && c.tp*c.pp%c.Hardware.Devices != 0 {
		return fmt.Sprintf("%s does not fill nodes of %d devices", c.degrees(), c.Hardware.Devices)
	}
	if c.tp <= c.Hardware.Devices && c.Hardware.Devices%(c.tp*min(c.pp, max(1, c.Hardware.Devices/c.tp))) != 0 {
		return fmt.Sprintf("%s leaves devices of a node of %d idle", c.degrees(), c.Hardware.Devices)
	}
	across := c.tp > c.Hardware.Devices
	if across && c.Hardware.spec.Link != "nvlink-72" && !c.Unverified && (c.cell == nil || c.cell.TP != c.tp) {
		return fmt.Sprintf("TP%d reaches beyond one node of %d devices, and nothing but an NVLink domain joins nodes fast enough (--unverified prints it)", c.tp, c.Hardware.Devices)
	}
	return ""
}

func (c *candidate) parts() []engine.Part {
	s := c.Model.Subject
	return []engine.Part{s.Experts, s.Shared, s.Dense, s.Attention, s.Output}
}

// isFP8 reports whether any part has FP8 codes.
func (c *candidate) isFP8() bool {
	return slices.ContainsFunc(c.parts(), func(p engine.Part) bool { return p.Weight.Type == format.Float && p.Weight.Bits == 8 })
}

func (c *candidate) noFP8() string {
	d := c.Hardware.Device
	if c.Release.Engine == engine.SGLang && d.Vendor == "nvidia" && d.Capability < 89 && c.isFP8() {
		return fmt.Sprintf("SGLang has no FP8 expert kernel below capability 8.9, %s is %d.%d (fp8e4nv not supported)", c.Hardware.ID, d.Capability/10, d.Capability%10)
	}
	return ""
}

func (c *candidate) ascendFP8() string {
	if d := c.Hardware.Device; d.Vendor == "huawei" && d.ID != "ascend-950pr" && c.isFP8() {
		return c.Hardware.ID + " has no FP8 arithmetic: values would be read as INT8"
	}
	return ""
}

// ascendCache refuses a type of the cache that vllm-ascend has no flag for: the
// cache is BF16, or int8 where the checkpoint says so.
func (c *candidate) ascendCache() string {
	switch {
	case c.Release.Engine != engine.Ascend:
		return ""
	case c.kv == "fp8":
		return "vllm-ascend keeps no FP8 cache (--kv-dtype auto or bf16)"
	case c.KV == "bf16" && slices.ContainsFunc(c.rowFlags(), func(f string) bool { return strings.HasPrefix(f, "--kv-cache-dtype") }):
		return "this checkpoint's cache is int8 (--kv-dtype auto)"
	}
	return ""
}

func (c *candidate) noFP4() string {
	d := c.Hardware.Device
	switch q := c.Model.Quant; {
	case q == "w4a8-fp8" && d.Capability != 90:
		return "int4 with FP8 activations is for compute capability 9.0 (H100, H200, H20)"
	case q == "nvfp4" && d.Vendor != "nvidia":
		return "NVFP4 needs NVIDIA's tensor cores: native on capability 10 and 12"
	}
	return ""
}

func (c *candidate) noSparse() string {
	if !c.Model.Config.SparseAttention() {
		return ""
	}
	if !slices.Contains(c.Hardware.Device.Sparse, c.Release.Engine) {
		return fmt.Sprintf("%s has no sparse-attention kernels for %s", c.Release.Title(), c.Hardware.ID)
	}
	if c.Release.Engine == engine.VLLM && c.Hardware.Device.Vendor == "amd" && !c.Unverified &&
		!slices.Contains(table().VLLM.Models[c.Model.Name].Verified, c.Hardware.ID) {
		return "on ROCm only SGLang's TileLang kernels are known to run this model's sparse attention (--unverified prints it)"
	}
	return ""
}

func (c *candidate) doesNotDivide() string {
	cfg := c.Model.Config
	switch {
	case cfg.Heads%c.tp != 0:
		return fmt.Sprintf("%d attention heads do not split over %d ranks", cfg.Heads, c.tp)
	case c.ep && cfg.Experts%c.expertRanks() != 0:
		return fmt.Sprintf("%d experts do not split over %d ranks", cfg.Experts, c.expertRanks())
	case cfg.MoEIntermediateSize%c.tp != 0 && !c.ep || cfg.IntermediateSize%c.tp != 0:
		return fmt.Sprintf("widths of %d and %d do not split over %d ranks", cfg.IntermediateSize, cfg.MoEIntermediateSize, c.tp)
	}
	return ""
}

func (c *candidate) doesNotLoad() string {
	row := c.row()
	switch {
	case row == nil && c.Unverified:
		return ""
	case row == nil:
		return fmt.Sprintf("no table judges %s (--unverified prints it)", c.degrees())
	case row.Answer == engine.NotJudged && c.Unverified, row.OK():
		return ""
	case row.Rule == "":
		return fmt.Sprintf("%s: %s", c.degrees(), row.Answer)
	}
	return row.Rule
}

func (c *candidate) sglangPipeline() string {
	if c.Release.Engine == engine.SGLang && c.pp > 1 && !c.Unverified {
		return "SGLang's pipeline parallelism crashed with these models up to 0.5.4; later releases have code for it that nobody has verified (--unverified prints it)"
	}
	return ""
}

func (c *candidate) vllmPipeline() string {
	if c.Release.Engine == engine.VLLM && c.pp > 1 && c.drafts > 0 && !c.Model.Config.SparseAttention() {
		return "the draft class of this family supports no pipeline parallelism; leave --mtp or --pp out"
	}
	return ""
}

func (c *candidate) sglangDegrees() string {
	if c.Release.Engine != engine.SGLang {
		return ""
	}
	switch {
	case c.tp%c.attnDP != 0:
		return fmt.Sprintf("attention DP %d does not divide TP%d", c.attnDP, c.tp)
	case c.attnDP > 1 && c.dp > 1:
		return "attention DP and replicas exclude each other"
	case c.dp > 1 && c.Hardware.Nodes > 1:
		return "replicas do not reach across nodes: start one server a node behind a router"
	}
	return ""
}

// knownParsers are the names that the engines take.
var (
	toolParsers      = []string{"glm45", "glm47"}
	reasoningParsers = []string{"glm45"}
)

func (c *candidate) unknownParser() string {
	if t := c.Tools; t != "" && t != "none" && !slices.Contains(toolParsers, t) && (t != "glm" || c.Release.Engine != engine.SGLang) {
		return fmt.Sprintf("%s has no tool-call parser %q for these models: %s", c.Release.Title(), t, strings.Join(toolParsers, ", "))
	}
	if t := c.Reasoning; t != "" && t != "none" && !slices.Contains(reasoningParsers, t) {
		return fmt.Sprintf("%s has no reasoning parser %q: %s", c.Release.Title(), t, strings.Join(reasoningParsers, ", "))
	}
	return ""
}

// draftProblem says why the checkpoint's MTP layer cannot draft here.
func (c *candidate) draftProblem() string {
	switch c.Model.Subject.Draft {
	case engine.NoDraft:
		return "the checkpoint has no MTP layer"
	case engine.LostDraft:
		return "config.json declares an MTP layer and the files do not hold it; glmconv repair --from BASE brings it back"
	}
	if c.Release.Engine == engine.Ascend && c.Model.Config.SparseAttention() && c.Model.Quant == "bf16" && !c.Model.Copies {
		return fmt.Sprintf("vllm-ascend wants embedding and head in the MTP layer: glmconv mtp-remap %s", c.Model.Path)
	}
	if row := c.row(); row != nil && row.NoDraft != "" {
		return row.NoDraft
	}
	return ""
}

func (c *candidate) noDraft() string {
	if c.drafts > 0 {
		return c.draftProblem()
	}
	return ""
}

func (c *candidate) doesNotFit() string {
	m := c.memory()
	if m.Cache <= 0 {
		return fmt.Sprintf("%s: %s of weights and %s beside them on a rank, usable are %s of %s", c.degrees(), progress.Bytes(m.Weights.Total()),
			progress.Bytes(m.Working), progress.Bytes(m.Usable), progress.Bytes(m.Device))
	}
	most := c.longest(m)
	want, own := c.MaxModelLen, c.Model.Config.MaxPositions
	switch {
	case want > own:
		return fmt.Sprintf("a context of %d tokens is more than the model's %d", want, own)
	case want > 0 && c.needed(want) > m.Cache:
		return fmt.Sprintf("%s: %d requests of %d tokens take %s of cache on a rank, free are %s; %d tokens fit", c.degrees(), max(c.Concurrency, 1), want,
			progress.Bytes(c.needed(want)), progress.Bytes(m.Cache), most)
	case want == 0 && most < min(own, leastContext):
		return fmt.Sprintf("%s: %s for the cache on a rank hold %d tokens", c.degrees(), progress.Bytes(m.Cache), most)
	}
	return ""
}

// leastContext is the shortest context that is worth a server.
const leastContext = 8192
