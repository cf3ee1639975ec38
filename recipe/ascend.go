package recipe

import (
	"encoding/json"
	"strconv"

	"github.com/glmconv/glmconv/quant/engine"
)

// bufferMiB is HCCL_BUFFSIZE: too small stalls the experts' exchange, too large
// takes the cache's room.
func (c *candidate) bufferMiB() int {
	if c.cell != nil {
		if n, err := strconv.Atoi(c.cell.Env["HCCL_BUFFSIZE"]); err == nil {
			return n
		}
	}
	if !c.Model.Config.SparseAttention() {
		return 512
	}
	return 200
}

// renamed are the variables that became keys of --additional-config.
var renamed = []struct{ env, key string }{
	{"VLLM_ASCEND_BALANCE_SCHEDULING", "enable_balance_scheduling"},
	{"VLLM_ASCEND_ENABLE_MLAPO", "enable_mlapo"},
	{"VLLM_ASCEND_ENABLE_FUSED_MC2", "enable_fused_mc2"},
}

// keysFrom is the first release that takes these keys.
const keysFrom = "0.23"

// takesKeys reports whether the release reads keys in place of variables.
func (c *candidate) takesKeys() bool {
	from, err := engine.Find("vllm-ascend@" + keysFrom)
	if err != nil {
		return false
	}
	for _, r := range engine.Releases(engine.Ascend) {
		switch r.Version {
		case from.Version:
			return true
		case c.Release.Version:
			return false
		}
	}
	return true
}

// switches are the features that older releases read from variables: name of
// the variable, on or off.
func (c *candidate) switches() map[string]bool {
	on := map[string]bool{"VLLM_ASCEND_BALANCE_SCHEDULING": true}
	if c.cell == nil {
		return on
	}
	for _, r := range renamed {
		if v, ok := c.cell.Env[r.env]; ok {
			on[r.env] = v == "1"
		}
	}
	if on["VLLM_ASCEND_ENABLE_FUSED_MC2"] && c.drafts > 0 { // dispatch_ffn_combine takes no drafts
		on["VLLM_ASCEND_ENABLE_FUSED_MC2"] = false
	}
	return on
}

// ascendEnv is the environment of a node.
func (c *candidate) ascendEnv(i int) []Env {
	t := table().Ascend.Env
	var out []Env
	set := func(name, value string) { out = append(out, Env{name, value, t[name].Why}) }
	set("HCCL_OP_EXPANSION_MODE", t["HCCL_OP_EXPANSION_MODE"].Value)
	if c.Hardware.Nodes > 1 {
		out = append(out, c.ascendNet(i)...)
	}
	set("OMP_PROC_BIND", "false")
	set("OMP_NUM_THREADS", "1")
	set("HCCL_BUFFSIZE", strconv.Itoa(c.bufferMiB()))
	set("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True")
	if !c.takesKeys() {
		on := c.switches()
		for _, r := range renamed {
			if on[r.env] {
				set(r.env, "1")
			}
		}
	}
	return out
}

// ascendNet says which address and interface a node uses.
func (c *candidate) ascendNet(i int) []Env {
	t := table().Ascend.Env
	nic := c.Interface
	if nic == "" {
		nic = "<interface>"
	}
	out := []Env{{"HCCL_IF_IP", c.address(i), t["HCCL_IF_IP"].Why}}
	for _, name := range []string{"GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME"} {
		out = append(out, Env{name, nic, t["GLOO_SOCKET_IFNAME"].Why})
	}
	return out
}

// ascendFlags are what vllm-ascend's guides add.
func (c *candidate) ascendFlags(l *list) {
	l.add("--seed", 1024, "ranks must draw alike")
	l.add("--compilation-config", `{"cudagraph_mode":"FULL_DECODE_ONLY"}`, "graphs for decoding only")
	if add := c.additional(nil); len(add) > 0 {
		c.merge(l, add)
	}
}

// additional is --additional-config.
func (c *candidate) additional(more map[string]any) map[string]any {
	add := map[string]any{}
	if c.Model.Config.SparseAttention() && c.Model.Quant != "bf16" {
		add["fuse_muls_add"] = true
		add["multistream_overlap_shared_expert"] = true
		add["ascend_compilation_config"] = map[string]any{"enable_npugraph_ex": true}
	}
	if c.cell != nil {
		for k, v := range c.cell.Add {
			add[k] = v
		}
	}
	for k, v := range more {
		add[k] = v
	}
	if c.takesKeys() {
		on := c.switches()
		for _, r := range renamed {
			if on[r.env] {
				add[r.key] = true
			}
		}
	}
	if add["enable_fused_mc2"] == true || !c.takesKeys() && c.switches()["VLLM_ASCEND_ENABLE_FUSED_MC2"] {
		delete(add, "multistream_overlap_shared_expert") // the two exclude each other
	}
	return add
}

// merge puts keys into --additional-config, which the engine tables may have
// begun.
func (c *candidate) merge(l *list, add map[string]any) {
	const flag = "--additional-config"
	for i := range *l {
		if (*l)[i].Flag != flag {
			continue
		}
		var have map[string]any
		if err := json.Unmarshal([]byte((*l)[i].Value), &have); err == nil {
			for k, v := range have {
				add[k] = v
			}
		}
		(*l)[i].Value = compact(add)
		return
	}
	l.add(flag, compact(add), "vllm-ascend's guide for this model")
}
