package recipe

import (
	"fmt"
	"strconv"

	"github.com/glmconv/glmconv/quant/engine"
)

// ranks are the servers of one node of a prefill or decode group on Ascend:
// one for each data-parallel rank, with the seven parameters of the guides'
// launcher.
type ranks struct {
	Local, Start, DP, TP int
	Port, RPC            int
	Address              string
}

// The words of a command that differ from rank to rank.
const (
	rankPort    = "\x00port"
	rankNumber  = "\x00rank"
	rankDevices = "\x00devices"
)

// side is one group of a pair while it is decided.
type side struct {
	role   string
	group  group
	chosen *candidate
	first  int // number of its first node among all
}

// decidePair decides prefill and decode groups: each is judged like a recipe of
// its own, then both together.
func decidePair(q *Query) (*Recipe, error) {
	r := &Recipe{Query: q, Schema: Schema}
	if q.Prefill.Nodes == 0 || q.Decode.Nodes == 0 {
		return nil, usage("such as --prefill 2x16 --decode 4x16 (nodes x devices)", "--topology pd needs --prefill and --decode")
	}
	p := &side{role: "prefill", group: q.pairGroup(true)}
	d := &side{role: "decode", group: q.pairGroup(false), first: q.Prefill.Nodes}
	for _, s := range []*side{p, d} {
		refusal, err := s.decide(q)
		if err != nil {
			return nil, err
		}
		if refusal != nil {
			refusal.Detail = s.role + ": " + refusal.Detail
			r.Refused = refusal
			return r, nil
		}
	}
	if p.chosen.tp < d.chosen.tp && q.Release.Engine == engine.Ascend {
		r.Refused = &Refusal{Rule: 11, Source: "vllm-ascend distributed/kv_transfer", Nearest: fmt.Sprintf("a prefill group of at least %d devices a node", d.chosen.tp),
			Detail: fmt.Sprintf("the connector needs a prefill TP of at least the decode TP, they are %d and %d", p.chosen.tp, d.chosen.tp)}
		return r, nil
	}
	d.chosen.fill(r)
	r.Degrees = fmt.Sprintf("prefill %s, decode %s", p.chosen.degrees(), d.chosen.degrees())
	r.Warnings = append(r.Warnings, p.chosen.warnings...)
	r.Nodes = nil
	for _, s := range []*side{p, d} {
		length := s.chosen.length(s.chosen.memory())
		for i := range s.chosen.Hardware.Nodes {
			r.Nodes = append(r.Nodes, s.node(i, length, p, d))
		}
	}
	router := q.router(p, d)
	r.Router = &router
	r.Port = 8000
	return r, nil
}

// pairGroup is a published layout of a group where one has as many nodes, or
// the rules' own.
func (q *Query) pairGroup(prefill bool) group {
	want, g := q.Decode, group{K: 3, Port: 6721, RPC: 10523, KVPort: 30100, Util: 0.92, Seqs: 8}
	if prefill {
		want, g = q.Prefill, group{K: 1, Port: 6700, RPC: 10521, KVPort: 30000, Util: 0.92, Seqs: 64, BT: 8192, Eager: true}
	}
	for _, p := range table().Ascend.PD {
		if q.Release.Engine != engine.Ascend || p.Model != q.Model.Name || p.Quant != q.Model.Quant || p.Hardware != q.Hardware.ID {
			continue
		}
		known := p.D
		if prefill {
			known = p.P
		}
		if known.Nodes == want.Nodes && known.TP*max(known.Local, 1) == want.Devices {
			if known.K == 0 {
				known.K = 3
			}
			if known.Port == 0 {
				known.Port, known.RPC = g.Port, g.RPC
			}
			if known.KVPort == 0 {
				known.KVPort = g.KVPort
			}
			return known
		}
	}
	g.Nodes = want.Nodes
	return g
}

// decide chooses a group's degrees: the published ones, else the largest that
// pass for prefill and the smallest for decode. Forced ones hold for both groups;
// the error is a *UsageError for those that a group cannot have.
func (s *side) decide(q *Query) (*Refusal, error) {
	sub := *q
	want := q.Prefill
	if s.role == "decode" {
		want = q.Decode
	}
	sub.Hardware.Devices, sub.Hardware.Nodes = want.Devices, want.Nodes
	if q.TP == 0 && q.DP == 0 {
		sub.TP, sub.DP = s.group.TP, s.group.DP
	}
	if q.Release.Engine != engine.Ascend { // each node is a server of its own
		sub.Hardware.Nodes = 1
	}
	if err := sub.checkDegrees(); q.forced() && err != nil {
		return nil, err
	}
	if s.group.Len > 0 && sub.MaxModelLen == 0 {
		sub.MaxModelLen = s.group.Len
	}
	if s.role == "prefill" && sub.MaxModelLen == 0 {
		sub.Goal = Latency
	}
	rows := sub.judge()
	var first *Refusal
	for _, c := range sub.candidates(rows, nil) {
		if c.tp > want.Devices || q.Release.Engine == engine.Ascend && !c.ep {
			continue
		}
		c.util = s.group.Util
		if c.drafts = s.group.K; c.MTP != AutoMTP {
			c.drafts = c.MTP
		} else if c.draftProblem() != "" {
			c.drafts = 0
		}
		if refusal := c.judge(); refusal != nil {
			if first == nil || rank(refusal.Rule) > rank(first.Rule) {
				first = refusal
			}
			continue
		}
		if s.chosen == nil || c.better(s.chosen) {
			s.chosen = c
		}
	}
	if s.chosen == nil && first == nil {
		first = &Refusal{Rule: 10, Source: "recipe", Detail: "no degrees use these devices exactly"}
	}
	if s.chosen != nil {
		s.chosen.Hardware.Nodes = want.Nodes
		s.group.Seqs = max(s.group.Seqs, int(share(int64(q.Concurrency), s.chosen.dp)))
		return nil, nil
	}
	return first, nil
}

// node is the command of node i of a group.
func (s *side) node(i, length int, p, d *side) Node {
	switch s.chosen.Release.Engine {
	case engine.Ascend:
		return s.ascendNode(i, length, p, d)
	case engine.SGLang:
		return s.sglangNode(i, length)
	}
	return s.vllmNode(i, length)
}

// ascendNode is a node of servers, one a rank.
func (s *side) ascendNode(i, length int, p, d *side) Node {
	c, g := s.chosen, s.group
	local := c.dp / c.Hardware.Nodes
	n := Node{Role: s.role, Rank: i, Env: s.ascendEnv(i), ranks: &ranks{Local: local, Start: i * local, DP: c.dp, TP: c.tp, Port: g.Port, RPC: g.RPC,
		Address: c.address(s.first)}}
	var l list
	l.add("", "vllm", "")
	l.add("", "serve", "")
	l.add("", c.Model.Path, "")
	l.add("--host", "0.0.0.0", "")
	l.add("--port", rankPort, "")
	l.add("--data-parallel-size", c.dp, "")
	l.add("--data-parallel-rank", rankNumber, "")
	l.add("--data-parallel-address", n.ranks.Address, "")
	l.add("--data-parallel-rpc-port", g.RPC, "")
	l.add("--tensor-parallel-size", c.tp, "")
	l.mark("--enable-expert-parallel", "whole experts on their rank")
	if c.drafts > 0 {
		l.add("--speculative-config", c.speculative(c.drafts), "")
	}
	c.named(&l)
	l.add("--max-model-len", length, "")
	tokens := g.BT
	if s.role == "decode" {
		tokens = max(tokens, g.Seqs*(1+c.drafts)) // a step holds every request with its drafts
	}
	l.add("--max-num-batched-tokens", tokens, "")
	l.add("--max-num-seqs", g.Seqs, "")
	l.add("--gpu-memory-utilization", strconv.FormatFloat(g.Util, 'g', 4, 64), "")
	l.add("--seed", 1024, "ranks must draw alike")
	for _, f := range c.rowFlags() {
		l.raw(f, "as this engine serves this layout")
	}
	if g.Eager {
		l.mark("--enforce-eager", "prefill gains nothing from graphs")
	} else {
		l.add("--compilation-config", s.graphs(), "decode steps as graphs")
	}
	c.merge(&l, c.additional(s.more(length)))
	tool, reasoning := c.parserNames()
	l.parsers(tool, reasoning)
	l.add("--kv-transfer-config", s.transfer(i, p, d), "both groups' degrees, the same on every rank")
	n.Args, n.Argv = l, argv(l)
	return n
}

// more are the keys of --additional-config that a pair needs.
func (s *side) more(length int) map[string]any {
	add := map[string]any{"recompute_scheduler_enable": true}
	if s.role == "prefill" && length > 131072 {
		add["layer_sharding"] = []string{"q_b_proj"} // a prefill of 200K tokens needs the room
	}
	return add
}

// graphs are the sizes of decode steps: multiples of a request with its drafts.
func (s *side) graphs() string {
	step := 1 + s.chosen.drafts
	var sizes []int
	for n := step; n <= s.group.Seqs*step; n += step {
		sizes = append(sizes, n)
	}
	return compact(map[string]any{"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": sizes})
}

// transfer is --kv-transfer-config of Mooncake.
func (s *side) transfer(i int, p, d *side) string {
	role := "kv_producer"
	if s.role == "decode" {
		role = "kv_consumer"
	}
	degrees := func(x *side) map[string]any { return map[string]any{"dp_size": x.chosen.dp, "tp_size": x.chosen.tp} }
	return compact(map[string]any{
		"kv_connector": "MooncakeConnectorV1", "kv_role": role, "kv_port": strconv.Itoa(s.group.KVPort), "engine_id": strconv.Itoa(s.first + i),
		"kv_connector_extra_config": map[string]any{"use_ascend_direct": true, "prefill": degrees(p), "decode": degrees(d)},
	})
}

func (s *side) ascendEnv(i int) []Env {
	c, t := s.chosen, table().Ascend.Env
	out := []Env{{"HCCL_OP_EXPANSION_MODE", "AIV", t["HCCL_OP_EXPANSION_MODE"].Why}}
	q := *c.Query
	addressed := candidate{Query: &q}
	out = append(out, addressed.ascendNet(s.first+i)...)
	a3 := "0"
	if c.Hardware.ID == "ascend-a3" {
		a3 = "1"
	}
	for _, e := range [][2]string{{"OMP_PROC_BIND", "false"}, {"OMP_NUM_THREADS", "1"}, {"PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True"},
		{"HCCL_BUFFSIZE", "256"}, {"ASCEND_AGGREGATE_ENABLE", "1"}, {"ACL_OP_INIT_MODE", "1"}, {"ASCEND_A3_ENABLE", a3},
		{"VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT", "480"}} {
		out = append(out, Env{e[0], e[1], t[e[0]].Why})
	}
	if s.role == "decode" {
		out = append(out, Env{"TASK_QUEUE_ENABLE", "1", t["TASK_QUEUE_ENABLE"].Why})
		if !c.takesKeys() && c.Model.Quant == "w8a8" {
			out = append(out, Env{"VLLM_ASCEND_ENABLE_MLAPO", "1", t["VLLM_ASCEND_ENABLE_MLAPO"].Why})
		}
	}
	return append(out, Env{"ASCEND_RT_VISIBLE_DEVICES", rankDevices, t["ASCEND_RT_VISIBLE_DEVICES"].Why})
}

// vllmNode is a server of vLLM's NIXL connector.
func (s *side) vllmNode(i, length int) Node {
	c := *s.chosen
	c.Query = s.alone()
	n := c.node(0, length)
	n.Role, n.Rank = s.role, i
	role, port, channel := "kv_producer", "8001", "5557"
	l := list(n.Args)
	if s.role == "decode" {
		role, port, channel = "kv_consumer", "8002", "5558"
		l.add("--compilation-config", `{"cudagraph_mode":"FULL_DECODE_ONLY"}`, "decode steps as graphs")
	}
	for k := range l {
		if l[k].Flag == "--port" {
			l[k].Value = port
		}
	}
	l.add("--kv-transfer-config", compact(map[string]any{"kv_connector": "NixlConnector", "kv_role": role, "kv_load_failure_policy": "fail"}), "")
	n.Env = append(n.Env, Env{"VLLM_NIXL_SIDE_CHANNEL_HOST", s.chosen.address(s.first + i), "where the other side finds this one"},
		Env{"VLLM_NIXL_SIDE_CHANNEL_PORT", channel, "of the side channel"}, Env{"UCX_NET_DEVICES", "all", "which cards may be used"})
	n.Args, n.Argv = l, argv(l)
	return n
}

// sglangNode is a server of SGLang's disaggregation.
func (s *side) sglangNode(i, length int) Node {
	c := *s.chosen
	c.Query = s.alone()
	n := c.node(0, length)
	n.Role, n.Rank = s.role, i
	l := list(n.Args)
	l.add("--disaggregation-mode", s.role, "")
	l.add("--disaggregation-transfer-backend", "mooncake", "")
	n.Args, n.Argv = l, argv(l)
	return n
}

// alone is the query of one node of a group that is a server of its own.
func (s *side) alone() *Query {
	q := *s.chosen.Query
	q.Hardware.Nodes = 1
	return &q
}

// router is the process in front of both groups.
func (q *Query) router(p, d *side) Node {
	var l list
	switch q.Release.Engine {
	case engine.Ascend:
		l.add("", "python3", "")
		l.add("", "load_balance_proxy_server_example.py", "")
		l.add("--port", 8000, "")
		l.add("--host", "0.0.0.0", "")
		for _, s := range []*side{p, d} {
			name := map[string]string{"prefill": "--prefiller", "decode": "--decoder"}[s.role]
			l.add(name+"-hosts", "", "")
			l[len(l)-1].bare = true
			local := s.chosen.dp / s.chosen.Hardware.Nodes
			for i := range s.chosen.dp {
				l.add("", q.address(s.first+i/local), "")
			}
			l.mark(name+"-ports", "")
			for i := range s.chosen.dp {
				l.add("", s.group.Port+i%local, "")
			}
		}
	case engine.SGLang:
		l.add("", "python3", "")
		l.add("-m", "sglang_router.launch_router", "")
		l.mark("--pd-disaggregation", "")
		q.endpoints(&l, p, d, "30000", "30000")
		l.add("--host", "0.0.0.0", "")
		l.add("--port", 8000, "")
	default:
		l.add("", "vllm-router", "")
		l.mark("--vllm-pd-disaggregation", "")
		q.endpoints(&l, p, d, "8001", "8002")
		l.add("--host", "0.0.0.0", "")
		l.add("--port", 8000, "")
	}
	return Node{Role: "router", Env: []Env{}, Args: l, Argv: argv(l)}
}

func (q *Query) endpoints(l *list, p, d *side, prefill, decode string) {
	for i := range p.chosen.Hardware.Nodes {
		l.add("--prefill", "http://"+q.address(p.first+i)+":"+prefill, "")
	}
	for i := range d.chosen.Hardware.Nodes {
		l.add("--decode", "http://"+q.address(d.first+i)+":"+decode, "")
	}
}
