package recipe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/engine"
)

// Schema names the JSON form of a Recipe.
const Schema = "glmconv.recipe/1"

// Recipe is a decision: how to serve, or why not.
type Recipe struct {
	Schema   string     `json:"schema"`
	Query    *Query     `json:"-"`
	Fits     bool       `json:"fits"`
	Tight    bool       `json:"tight"` // inside the error of the memory's figures
	Refused  *Refusal   `json:"refused"`
	Degrees  string     `json:"degrees,omitempty"`
	Memory   *Memory    `json:"memory"`
	Capacity *Capacity  `json:"capacity"`
	Nodes    []Node     `json:"nodes"`
	Router   *Node      `json:"router"`
	Images   []string   `json:"images"`
	Warnings []string   `json:"warnings"`
	Safer    string     `json:"safer,omitempty"` // the smallest change that makes a tight recipe safe
	Rejected []Rejected `json:"rejected"`
	Cell     Cell       `json:"cell"`
	Port     int        `json:"port,omitempty"`
	Weights  int64      `json:"weights,omitempty"` // bytes of the checkpoint's tensors

	chosen *candidate
}

// Cell says where the hints of a recipe come from.
type Cell struct {
	Status string `json:"status"` // "verified", "carried over", "derived"
	Source string `json:"source"`
	Note   string `json:"note,omitempty"`
}

// Node is the server process of one node, or of one rank of it.
type Node struct {
	Role string   `json:"role"` // "server", "prefill", "decode", "router"
	Rank int      `json:"rank"` // of the node in its role
	Env  []Env    `json:"env"`
	Args []Arg    `json:"args"`
	Argv []string `json:"argv"`

	ranks *ranks // a node that starts several servers
}

// Env is a variable with the reason for it.
type Env struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// Arg is a flag with its value, if it takes one, and where it comes from.
type Arg struct {
	Flag  string `json:"flag"`
	Value string `json:"value,omitempty"`
	Why   string `json:"why,omitempty"`
	bare  bool   // takes no value
}

// words are the argument as argv has it.
func (a Arg) words() []string {
	switch {
	case a.Flag == "":
		return []string{a.Value}
	case a.bare:
		return []string{a.Flag}
	}
	return []string{a.Flag, a.Value}
}

// argv is the whole command.
func argv(args []Arg) []string {
	var out []string
	for _, a := range args {
		out = append(out, a.words()...)
	}
	return out
}

// fill makes the recipe of the candidate that was chosen.
func (c *candidate) fill(r *Recipe) {
	m := c.memory()
	length := c.length(m)
	m.Needed = c.needed(length)
	r.chosen, r.Memory, r.Degrees, r.Weights = c, &m, c.degrees(), c.Model.Trunk.Total()+c.Model.Draft.Total()
	r.Fits, r.Tight = true, c.tight(m)
	r.Capacity = &Capacity{Tokens: c.tokens(m), Length: length, Requests: m.Cache / (m.PerToken * int64(max(length, 1))) * int64(c.spread())}
	c.warn(length)
	if r.Tight {
		r.Safer = c.safer(m)
	}
	r.Cell = Cell{Status: c.status(), Source: c.cell.source()}
	if c.cell != nil {
		r.Cell.Note = c.cell.Note
	}
	r.Port = c.port()
	for i := range c.Hardware.Nodes {
		r.Nodes = append(r.Nodes, c.node(i, length))
	}
	r.Images = []string{c.image()}
	r.Warnings = c.warnings
}

// status is that of the cell, where its degrees came out.
func (c *candidate) status() string {
	if c.cell != nil && !c.matches() {
		return "derived"
	}
	return c.cell.status(c.Hardware.ID)
}

// length is the context that is served.
func (c *candidate) length(m Memory) int {
	if c.MaxModelLen > 0 {
		return c.MaxModelLen
	}
	own := c.Model.Config.MaxPositions
	if c.cell != nil && c.cell.Len > 0 && c.matches() {
		own = min(own, c.cell.Len)
	}
	if c.needed(own) <= m.Cache-m.Margin || c.cell.status(c.Hardware.ID) == "verified" && c.matches() && c.needed(own) <= m.Cache {
		return own
	}
	return min(own, c.longest(m))
}

func (c *candidate) warn(length int) {
	say := func(format string, args ...any) { c.warnings = append(c.warnings, fmt.Sprintf(format, args...)) }
	if own := c.Model.Config.MaxPositions; c.MaxModelLen == 0 && length < own {
		say("the context is %d tokens of the model's %d: that is what this set-up holds or its source used", length, own)
	}
	if row := c.row(); row != nil && row.Rule != "" && row.OK() && !strings.HasPrefix(row.Rule, "no speculative decoding") {
		say("%s", row.Rule)
	}
	if c.drafts == 0 && c.MTP == AutoMTP && c.Goal != Throughput && c.Goal != LongContext {
		if why := c.draftProblem(); why != "" {
			say("no speculative decoding: %s", why)
		}
	}
	if c.Model.Unsure != "" && c.Tools == "" {
		other := table().VLLM.Models[c.Model.Unsure]
		say("config.json fits %s and %s; for the latter the tool parser is %s (--tools %s)", c.Model.Name, c.Model.Unsure, other.Tool, other.Tool)
	}
	if c.Release.Engine == engine.Ascend && c.Model.Config.NestedText() {
		say("GLM-4.5V and 4.6V are not in vllm-ascend's support matrix")
	}
	if c.Hardware.ID == "mi355x" && c.isFP8() {
		say("ROCm images before 2026-06-18 computed block FP8 wrong on this device")
	}
	if c.Hardware.spec.Link == "pcie" && c.tp > 1 {
		say("these devices are joined by PCIe only: expect communication to dominate")
	}
	if c.cell != nil && c.cell.Needs != "" {
		say("needs %s first", c.cell.Needs)
	}
}

// safer is the smallest change after which the memory's error no longer
// matters.
func (c *candidate) safer(m Memory) string {
	each := share(int64(max(c.Concurrency, 1)), c.spread()) * c.cacheBytes(true)
	if n := int((m.Cache - m.Margin) / each / 1024 * 1024); n >= 1024 {
		return fmt.Sprintf("--max-model-len %d", n)
	}
	if c.kv != "fp8" && c.Release.Engine != engine.Ascend && c.Hardware.Device.Capability >= 89 {
		return "--kv-dtype fp8"
	}
	return "more devices"
}

// port is where the server listens: the engine's own default.
func (c *candidate) port() int {
	if c.Release.Engine == engine.SGLang {
		return 30000
	}
	return 8000
}

// image is the container image of the tables.
func (c *candidate) image() string {
	t, d := table(), c.Hardware.Device
	switch {
	case c.Image != "":
		return c.Image
	case c.Release.Engine == engine.Ascend:
		return "ascend/vllm-ascend:v" + c.Release.Version + ".0" + c.Hardware.spec.Suffix
	case c.Release.Engine == engine.VLLM && d.Vendor == "amd":
		return "vllm/vllm-openai-rocm:v" + c.Release.Version + ".0"
	case c.Release.Engine == engine.VLLM:
		return "vllm/vllm-openai:v" + c.Release.Version + ".0"
	case d.Vendor == "amd" && c.Hardware.spec.GFX == "gfx950":
		return t.SGLang.Images["mi35x"]
	case d.Vendor == "amd":
		return t.SGLang.Images["mi30x"]
	case d.Vendor == "nvidia":
		return "lmsysorg/sglang:v" + c.Release.Version
	}
	return t.SGLang.Images["npu"]
}

// rowFlags are the flags that the engine tables demand, without those of
// drafts.
func (c *candidate) rowFlags() []string {
	row := c.row()
	if row == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(row.Flags), func(f string) bool { return strings.HasPrefix(f, "--speculative") })
}

// parserNames are the parsers that are asked for, or the model's; "none" is none.
func (c *candidate) parserNames() (tool, reasoning string) {
	tool, reasoning = c.Model.parsers()
	if c.Tools != "" {
		tool = c.Tools
	}
	if c.Reasoning != "" {
		reasoning = c.Reasoning
	}
	return tool, reasoning
}
