package recipe

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/quant/engine"
)

// list collects the arguments of a command.
type list []Arg

func (l *list) add(flag string, value any, why string) {
	*l = append(*l, Arg{Flag: flag, Value: fmt.Sprint(value), Why: why})
}

func (l *list) mark(flag, why string) { *l = append(*l, Arg{Flag: flag, Why: why, bare: true}) }

// raw adds a flag of the tables, unless the flag is there already.
func (l *list) raw(text, why string) {
	w := split(text)
	for i := 0; i < len(w); {
		if i+1 < len(w) && !strings.HasPrefix(w[i+1], "--") {
			if !l.has(w[i]) {
				l.add(w[i], w[i+1], why)
			}
			i += 2
			continue
		}
		if !l.has(w[i]) {
			l.mark(w[i], why)
		}
		i++
	}
}

func (l *list) has(flag string) bool {
	return slices.ContainsFunc(*l, func(a Arg) bool { return a.Flag == flag })
}

// node is the command of node i.
func (c *candidate) node(i, length int) Node {
	n := Node{Role: "server", Rank: i, Env: []Env{}}
	switch c.Release.Engine {
	case engine.SGLang:
		n.Args = c.sglang(i, length)
	default:
		n.Args = c.vllm(i, length)
	}
	n.Env = append(n.Env, c.env(i)...)
	n.Argv = argv(n.Args)
	return n
}

// address is that of a node, or a placeholder that no shell takes for one.
func (q *Query) address(i int) string {
	if i < len(q.NodeIP) {
		return q.NodeIP[i]
	}
	return fmt.Sprintf("<node%d-ip>", i)
}

func (c *candidate) env(i int) []Env {
	var out []Env
	switch {
	case c.Release.Engine == engine.Ascend:
		out = c.ascendEnv(i)
	case c.Hardware.Nodes > 1:
		nic := c.Interface
		if nic == "" {
			nic = "<interface>"
		}
		for _, name := range []string{"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"} {
			out = append(out, Env{name, nic, "which interface joins the nodes"})
		}
	}
	if c.Release.Engine == engine.VLLM && c.Hardware.Device.Vendor == "amd" {
		for _, k := range slices.Sorted(maps.Keys(table().VLLM.AMD.Env)) {
			out = append(out, Env{k, table().VLLM.AMD.Env[k], "vLLM's recipes for ROCm"})
		}
	}
	if c.cell != nil && c.Release.Engine == engine.SGLang {
		for _, k := range slices.Sorted(maps.Keys(c.cell.Env)) {
			out = append(out, Env{k, c.cell.Env[k], c.cell.source()})
		}
	}
	return out
}

// vllm is the command of vLLM and vllm-ascend.
func (c *candidate) vllm(i, length int) []Arg {
	var l list
	l.add("", "vllm", "")
	l.add("", "serve", "")
	l.add("", c.Model.Path, "")
	c.named(&l)
	l.add("--tensor-parallel-size", c.tp, "")
	if c.pp > 1 {
		l.add("--pipeline-parallel-size", c.pp, "layers in stages")
	}
	c.vllmRanks(&l, i)
	if c.ep {
		l.mark("--enable-expert-parallel", "whole experts on their rank")
	}
	if length != c.Model.Config.MaxPositions {
		l.add("--max-model-len", length, "what the cache holds, or what was asked for")
	}
	c.vllmMemory(&l)
	c.vllmFlags(&l)
	if c.drafts > 0 {
		l.add("--speculative-config", c.speculative(c.drafts), "drafts of the MTP layer; they pay at low load")
	}
	if i == 0 || c.dp == 1 {
		l.add("--host", "0.0.0.0", "")
		l.add("--port", c.port(), "")
	}
	return l
}

// named says under which name the model is served.
func (c *candidate) named(l *list) {
	if c.ServedName != "" {
		l.add("--served-model-name", c.ServedName, "")
	}
}

// vllmRanks joins nodes: tensor parallelism over all, or data parallelism with
// the same number of ranks on each.
func (c *candidate) vllmRanks(l *list, i int) {
	nodes := c.Hardware.Nodes
	if c.dp > 1 {
		l.add("--data-parallel-size", c.dp, "copies that take requests in turn")
	}
	switch {
	case nodes == 1:
	case c.dp > 1 && c.tp*c.pp <= c.Hardware.Devices:
		local := c.dp / nodes
		l.add("--data-parallel-size-local", local, "")
		l.add("--data-parallel-address", c.address(0), "")
		l.add("--data-parallel-rpc-port", c.rpc(), "")
		if i > 0 {
			l.add("--data-parallel-start-rank", i*local, "")
			l.mark("--headless", "node 0 answers")
		}
	default:
		l.add("--nnodes", nodes, "")
		l.add("--node-rank", i, "")
		l.add("--master-addr", c.address(0), "")
		if i > 0 {
			l.mark("--headless", "node 0 answers")
		}
	}
}

func (c *candidate) rpc() int {
	if c.cell != nil && c.cell.RPC > 0 {
		return c.cell.RPC
	}
	return 13389
}

// vllmMemory are the flags that the memory's arithmetic rests on.
func (c *candidate) vllmMemory(l *list) {
	if c.Release.Engine == engine.Ascend {
		tokens, seqs := c.batch()
		l.add("--max-num-seqs", seqs, "requests of one step")
		l.add("--max-num-batched-tokens", tokens, "tokens of one step")
	}
	l.add("--gpu-memory-utilization", strconv.FormatFloat(c.fraction(), 'g', 4, 64), "the fraction that the arithmetic used")
	if c.Release.Engine == engine.VLLM {
		tokens, seqs := c.batch()
		if _, own := c.ownBatch(); seqs > own {
			l.add("--max-num-seqs", seqs, "the requests asked for, more than the default")
			l.add("--max-num-batched-tokens", tokens, "tokens of one step")
		}
		c.cacheType(l, "fp8")
	}
}

// cacheType adds the type of the cache, under the engine's name for FP8. BF16 is
// said only where it was asked for: the default follows checkpoint and device.
func (c *candidate) cacheType(l *list, fp8 string) {
	switch {
	case c.kv == "fp8":
		l.add("--kv-cache-dtype", fp8, "half the cache")
	case c.KV == "bf16":
		l.add("--kv-cache-dtype", "bfloat16", "as asked")
	}
}

func (c *candidate) vllmFlags(l *list) {
	for _, f := range c.rowFlags() {
		l.raw(f, "as this engine serves this layout")
	}
	if c.Release.Engine == engine.Ascend {
		c.ascendFlags(l)
	} else {
		for _, f := range table().VLLM.Models[c.Model.Name].Flags {
			l.raw(f, "vLLM's recipes")
		}
		if c.Hardware.Device.Vendor == "amd" && c.Model.Config.SparseAttention() {
			for _, f := range table().VLLM.AMD.FlagsDSA {
				l.raw(f, "vLLM's recipes for ROCm")
			}
		}
	}
	tool, reasoning := c.parserNames()
	l.parsers(tool, reasoning)
}

// parsers adds vLLM's parsers of tool calls and reasoning; "none" is none.
func (l *list) parsers(tool, reasoning string) {
	if tool != "none" {
		l.mark("--enable-auto-tool-choice", "without it tool calls stay text")
		l.add("--tool-call-parser", tool, "")
	}
	if reasoning != "none" {
		l.add("--reasoning-parser", reasoning, "")
	}
}

// speculative is the value of --speculative-config.
func (c *candidate) speculative(k int) string {
	v := map[string]any{"method": "mtp", "num_speculative_tokens": k}
	if c.Release.Engine == engine.Ascend {
		if c.Model.Config.SparseAttention() {
			v["method"] = "deepseek_mtp"
		} else {
			v["enforce_eager"] = true
		}
	}
	return compact(v)
}

// compact is JSON with sorted keys.
func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("recipe: " + err.Error()) // maps of texts and numbers
	}
	return string(b)
}

// sglang is the command of SGLang.
func (c *candidate) sglang(i, length int) []Arg {
	var l list
	l.add("", "python3", "")
	l.add("-m", "sglang.launch_server", "")
	l.add("--model-path", c.Model.Path, "")
	c.named(&l)
	for _, f := range c.rowFlags() {
		l.raw(f, reason(f))
	}
	l.add("--tp-size", c.tp, "")
	if c.ep && c.tp > 1 {
		l.add("--ep-size", c.tp, "whole experts on their rank")
	}
	if c.attnDP > 1 {
		l.add("--attn-dp-size", c.attnDP, reason("--attn-dp-size"))
	}
	if c.pp > 1 {
		l.add("--pp-size", c.pp, "layers in stages")
	}
	if c.dp > 1 {
		l.add("--dp-size", c.dp, "copies that take requests in turn")
	}
	if c.cell != nil && c.cell.A2A != "" && c.attnDP > 1 && c.ep {
		l.add("--moe-a2a-backend", c.cell.A2A, reason("--moe-a2a-backend "+c.cell.A2A))
	}
	if length != c.Model.Config.MaxPositions {
		l.add("--context-length", length, "what the cache holds, or what was asked for")
	}
	c.cacheType(&l, "fp8_e4m3")
	for _, f := range c.cellFlags() {
		l.raw(f, reason(f))
	}
	tool, reasoning := c.parserNames()
	if tool != "none" {
		l.add("--tool-call-parser", tool, "")
	}
	if reasoning != "none" {
		l.add("--reasoning-parser", reasoning, "")
	}
	if c.drafts > 0 {
		l.add("--speculative-algorithm", "EAGLE", reason("mtp"))
		l.add("--speculative-num-steps", c.drafts, "")
		l.add("--speculative-eagle-topk", 1, "")
		l.add("--speculative-num-draft-tokens", c.drafts+1, "")
		l.mark("--enable-metrics", "acceptance of drafts can be read")
	}
	if c.Hardware.Nodes > 1 {
		l.add("--nnodes", c.Hardware.Nodes, "")
		l.add("--node-rank", i, "")
		l.add("--dist-init-addr", c.address(0)+":20000", "")
	}
	l.add("--host", "0.0.0.0", "")
	l.add("--port", c.port(), "")
	return l
}

// cellFlags are the flags of the published set-up, without those that what was
// asked for contradicts.
func (c *candidate) cellFlags() []string {
	if c.cell == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(c.cell.Flags), c.overruled)
}

// overruled reports whether a flag of the published set-up says other than what
// was asked for, or belongs to what is off.
func (c *candidate) overruled(f string) bool {
	flag, value, _ := strings.Cut(f, " ")
	switch flag {
	case "--context-length":
		return true // the length is decided, not looked up
	case "--kv-cache-dtype":
		return c.KV != "auto"
	case "--max-running-requests":
		n, err := strconv.ParseInt(value, 10, 64)
		return err == nil && n < share(int64(c.Concurrency), c.dp)
	case "--enable-dp-lm-head": // SGLang asserts attention DP
		return c.attnDP == 1
	}
	return strings.HasPrefix(flag, "--speculative-") && c.drafts == 0
}

// reason is the table's line on a flag.
func reason(flag string) string {
	t := table().SGLang.Reasons
	for _, k := range slices.Sorted(maps.Keys(t)) {
		if strings.HasPrefix(flag, k) {
			return t[k]
		}
	}
	if strings.Contains(flag, "backend tilelang") {
		return t["--dsa-*-backend tilelang"]
	}
	return ""
}
