package recipe

import (
	"embed"
	"fmt"
	"slices"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed data/*.yaml
var files embed.FS

// words is a YAML text or a list of texts.
type words []string

// UnmarshalYAML reads either form.
func (w *words) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*w = words{n.Value}
		return nil
	}
	return n.Decode((*[]string)(w))
}

// cell is a published set-up.
type cell struct {
	Model    words             `yaml:"model"`
	Same     words             `yaml:"same"`
	Hardware words             `yaml:"hw"`
	Similar  words             `yaml:"same_unverified"` // devices that it was not tried on
	Quant    words             `yaml:"quant"`
	Goal     string            `yaml:"goal"`
	Nodes    int               `yaml:"nodes"`
	TP       int               `yaml:"tp"`
	EP       int               `yaml:"ep"`
	DP       int               `yaml:"dp"`
	AttnDP   int               `yaml:"attn_dp"`
	Replicas int               `yaml:"replicas"`
	A2A      string            `yaml:"a2a"`
	MTP      string            `yaml:"mtp"`
	Flags    []string          `yaml:"flags"`
	Env      map[string]string `yaml:"env"`
	Add      map[string]any    `yaml:"add"` // keys of vllm-ascend's --additional-config
	Refuse   string            `yaml:"refuse"`
	Status   string            `yaml:"st"`
	From     string            `yaml:"from"`
	Note     string            `yaml:"note"`
	Needs    string            `yaml:"needs"`

	// vllm-ascend
	Len  int     `yaml:"len"`
	Seqs int     `yaml:"seqs"`
	BT   int     `yaml:"bt"`
	Util float64 `yaml:"util"`
	K    int     `yaml:"k"`
	RPC  int     `yaml:"rpc"`
}

// published is what vLLM's recipes say of a model.
type published struct {
	Min       string   `yaml:"min"`
	Tool      string   `yaml:"tool"`
	Reasoning string   `yaml:"reasoning"`
	MTP       int      `yaml:"mtp"`
	Verified  []string `yaml:"verified"`
	Flags     []string `yaml:"flags"`
}

// group is one side of a prefill-decode set-up.
type group struct {
	Nodes    int     `yaml:"nodes"`
	DP       int     `yaml:"dp"`
	TP       int     `yaml:"tp"`
	Local    int     `yaml:"local"`
	Port     int     `yaml:"port"`
	RPC      int     `yaml:"rpc"`
	Len      int     `yaml:"len"`
	Seqs     int     `yaml:"seqs"`
	BT       int     `yaml:"bt"`
	Util     float64 `yaml:"util"`
	Eager    bool    `yaml:"eager"`
	K        int     `yaml:"k"`
	Captures []int   `yaml:"captures"`
	KVPort   int     `yaml:"kv_port"`
}

// pair is a published prefill-decode set-up.
type pair struct {
	Model    string `yaml:"model"`
	Quant    string `yaml:"quant"`
	Hardware string `yaml:"hw"`
	P        group  `yaml:"P"`
	D        group  `yaml:"D"`
	Proxy    int    `yaml:"proxy"`
	From     string `yaml:"from"`
}

// variable is an environment variable of vllm-ascend.
type variable struct {
	Value string `yaml:"v"`
	Why   string `yaml:"why"`
	Until string `yaml:"until"`
}

// tables is the content of data/*.yaml.
type tables struct {
	Devices map[string]*hardware
	SGLang  struct {
		Images  map[string]string `yaml:"images"`
		Cells   []cell            `yaml:"cells"`
		Reasons map[string]string `yaml:"reasons"`
	}
	VLLM struct {
		Models map[string]published `yaml:"models"`
		AMD    struct {
			Env         map[string]string `yaml:"env"`
			FlagsDSA    []string          `yaml:"flags_dsa"`
			Utilization float64           `yaml:"utilization"`
		} `yaml:"amd"`
	}
	Ascend struct {
		Images map[string]string `yaml:"images"`
		Docker struct {
			Mounts []string `yaml:"mounts"`
		} `yaml:"docker"`
		Cells []cell              `yaml:"cells"`
		PD    []pair              `yaml:"pd"`
		Env   map[string]variable `yaml:"env"`
	}
}

// table is read once: the files are the binary's own, and the package's tests
// read them.
var table = sync.OnceValue(func() *tables {
	t := new(tables)
	var hw struct {
		Devices map[string]*hardware `yaml:"devices"`
	}
	for name, into := range map[string]any{"hardware": &hw, "sglang": &t.SGLang, "vllm": &t.VLLM, "ascend": &t.Ascend} {
		data, err := files.ReadFile("data/" + name + ".yaml")
		if err == nil {
			err = yaml.Unmarshal(data, into)
		}
		if err != nil {
			panic(fmt.Sprintf("recipe: data/%s.yaml: %v", name, err))
		}
	}
	t.Devices = hw.Devices
	return t
})

// is reports whether a cell is about a checkpoint on a device, for a goal.
func (c *cell) is(q *Query, nodes int) bool {
	if n := max(c.Nodes, 1); n != nodes {
		return false
	}
	if !slices.Contains(c.Model, q.Model.Name) && !slices.Contains(c.Same, q.Model.Name) || !slices.Contains(c.Quant, q.Model.Quant) {
		return false
	}
	if !slices.Contains(c.Hardware, q.Hardware.ID) && !slices.Contains(c.Similar, q.Hardware.ID) {
		return false
	}
	return c.Goal == "" || c.Goal == "any" || c.Goal == q.Goal
}

// status says how far a cell can be trusted: "verified", "carried over" or
// "derived".
func (c *cell) status(device string) string {
	switch {
	case c == nil:
		return "derived"
	case slices.Contains(c.Similar, device):
		return "carried over"
	case c.Status == "v" || c.Status == "":
		return "verified"
	case c.Status == "m":
		return "carried over"
	}
	return "derived"
}

func (c *cell) source() string {
	switch {
	case c == nil:
		return "rules and arithmetic of glmconv"
	case c.From != "":
		return c.From
	}
	return "SGLang's published configurations"
}

// cells are the published set-ups of the engine that is asked.
func (q *Query) cells() []cell {
	switch q.Release.Engine {
	case "sglang":
		return table().SGLang.Cells
	case "vllm-ascend":
		return table().Ascend.Cells
	}
	return nil
}

// find returns the published set-up for a query, verified ones first.
func (q *Query) find() *cell {
	var best *cell
	list := q.cells()
	for i := range list {
		c := &list[i]
		if c.is(q, q.Hardware.Nodes) && (best == nil || best.status(q.Hardware.ID) != "verified" && c.status(q.Hardware.ID) == "verified") {
			best = c
		}
	}
	return best
}
