package layout

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/dlclark/regexp2"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// The matching rules of the engines as docs/facts/engine-vllm.md 2,
// docs/facts/engine-sglang.md 2 and docs/facts/engine-vllm-ascend.md 2 state
// them, on the names that the engines give their modules. Nothing here is
// shared with the writers.

// runtimeModule is a module as an engine builds it.
type runtimeModule struct {
	name    string
	shards  []string // names the engine expands a fused name to, nil if it does not
	experts bool     // name is ….mlp.experts; decided on expert 0
	source  []string // the checkpoint modules in it
	vision  bool
}

var fusedOf = map[string]struct {
	name  string
	parts []string
}{
	"q_proj": {"qkv_proj", []string{"q_proj", "k_proj", "v_proj"}}, "gate_proj": {"gate_up_proj", []string{"gate_proj", "up_proj"}},
	"q_a_proj": {"fused_qkv_a_proj", []string{"q_a_proj", "kv_a_proj_with_mqa"}},
}

var swallowed = map[string]bool{"k_proj": true, "v_proj": true, "up_proj": true, "kv_a_proj_with_mqa": true}

// runtimeModules lists the modules an engine asks its quantisation about.
// rename maps checkpoint names; expand tells which fused names are expanded.
func runtimeModules(weights []*Weight, rename func(glm.Tensor) string, qkvA string, expand func(fused string) bool) []runtimeModule {
	var out []runtimeModule
	for _, w := range weights {
		t := *w.Tensor
		if t.Param != "weight" || t.Role == glm.IndexerK || !t.Role.IsLinear() && t.Role != glm.VisionLinear {
			continue // engines build wk, router, eh_proj and heads without a quantisation
		}
		dot := strings.LastIndexByte(t.Module, '.')
		parent, last := t.Module[:dot+1], t.Module[dot+1:]
		runtime := rename(t)
		prefix := runtime[:strings.LastIndexByte(runtime, '.')+1]
		m := runtimeModule{name: runtime, source: []string{t.Module}, vision: t.Role.IsVision()}
		switch f, fused := fusedOf[last]; {
		case t.Role.IsExpert():
			if t.Expert != 0 || t.Role != glm.ExpertGate {
				continue
			}
			m.name, m.experts, m.source = strings.TrimSuffix(prefix, ".0."), true, nil
			for _, p := range []string{"gate_proj", "up_proj", "down_proj"} {
				m.shards, m.source = append(m.shards, prefix+p), append(m.source, parent+p)
			}
		case swallowed[last]:
			continue
		case fused:
			name := f.name
			if name == "fused_qkv_a_proj" {
				name = qkvA
			}
			m.name, m.source = prefix+name, nil
			for _, p := range f.parts {
				m.source = append(m.source, parent+p)
				if expand(name) {
					m.shards = append(m.shards, prefix+p)
				}
			}
		case last == "qkv": // the tower: both engines call it qkv_proj
			m.name = prefix + "qkv_proj"
			if expand("qkv_proj") {
				m.shards = []string{prefix + "q_proj", prefix + "k_proj", prefix + "v_proj"}
			}
		}
		out = append(out, m)
	}
	return out
}

func vllmName(cfg *glm.Config) func(glm.Tensor) string {
	return func(t glm.Tensor) string { return vllmMapped(cfg, t.Module) }
}

func vllmMapped(cfg *glm.Config, name string) string {
	if cfg.Vision == nil {
		return name
	}
	for _, m := range [][2]string{{"model.language_model.", "language_model.model."}, {"model.visual.", "visual."}} {
		if rest, ok := strings.CutPrefix(name, m[0]); ok {
			return m[1] + rest
		}
	}
	if name == "lm_head" {
		return "language_model.lm_head"
	}
	return name
}

func sglangName(cfg *glm.Config) func(glm.Tensor) string {
	return func(t glm.Tensor) string {
		if t.MTP {
			return "model.decoder." + strings.TrimPrefix(t.Module, cfg.LayerPrefix(t.Layer))
		}
		if cfg.Vision != nil {
			return strings.TrimPrefix(t.Module, "model.")
		}
		return t.Module
	}
}

// matches are Python's re.match answers, kept because the lists of a family
// differ little from scheme to scheme.
var matches sync.Map

type compiled struct {
	fast *regexp.Regexp
	slow *regexp2.Regexp
}

var expressions sync.Map

func pyMatch(expr, name string) bool {
	key := expr + "\x00" + name
	if v, ok := matches.Load(key); ok {
		return v.(bool)
	}
	v, ok := expressions.Load(expr)
	if !ok {
		c := compiled{}
		if re, err := regexp.Compile(`\A(?:` + expr + `)`); err == nil {
			c.fast = re
		} else {
			c.slow = regexp2.MustCompile(`\A(?:`+expr+`)`, regexp2.None)
		}
		expressions.Store(expr, c)
		v = c
	}
	var hit bool
	if c := v.(compiled); c.fast != nil {
		hit = c.fast.MatchString(name)
	} else {
		hit, _ = c.slow.MatchString(name)
	}
	matches.Store(key, hit)
	return hit
}

// ctFile is the part of a compressed-tensors config that engines match with.
type ctFile struct {
	Format string `json:"format"`
	Groups map[string]struct {
		Targets []string `json:"targets"`
		Format  string   `json:"format"`
		Weights struct {
			NumBits  int    `json:"num_bits"`
			Type     string `json:"type"`
			Strategy string `json:"strategy"`
		} `json:"weights"`
	} `json:"config_groups"`
	Ignore []string `json:"ignore"`
}

// kindOf names what a group does, for comparison with an encoding.
func (f ctFile) kindOf(group string) string {
	g := f.Groups[group]
	return fmt.Sprintf("%s%d %s %s", g.Weights.Type, g.Weights.NumBits, g.Weights.Strategy, g.Format)
}

// kindOf is the kind of a group that a weight needs.
func kindOf(q format.Weight) string {
	switch {
	case !q.Quantized():
		return ""
	case isMicro(q):
		return fmt.Sprintf("float%d %s %s", q.Bits, q.Strategy, ctFormat(q))
	case q.Packing == format.Words && q.Bits == 8:
		return "int8 group pack-quantized"
	case q.Type == format.Float:
		return "float8 " + q.Strategy.String() + " float-quantized"
	case q.Bits == 8:
		return "int8 channel int-quantized"
	case q.Packing == format.Words:
		return "int4 group pack-quantized"
	}
	return "int4 group int-quantized"
}

// hit is one entry against one name; literal is the engine's rule for names.
func hitAny(list []string, name string, literal func(entry, name string) bool) bool {
	for _, e := range list {
		if expr, ok := strings.CutPrefix(e, "re:"); ok {
			if pyMatch(expr, name) {
				return true
			}
		} else if literal(e, name) {
			return true
		}
	}
	return false
}

// agree asks for every shard and fails when they differ.
func agree[T comparable](m runtimeModule, ask func(string) T) (v T, err error) {
	v = ask(m.shards[0])
	for _, s := range m.shards[1:] {
		if ask(s) != v {
			return v, fmt.Errorf("%s: its shards differ", m.name)
		}
	}
	return v, nil
}

// ctDecide is the decision of an engine for one module under a
// compressed-tensors config: the kind of its group, "" if it stays.
func ctDecide(f ctFile, m runtimeModule, literal func(entry, name string) bool, strict bool) (string, error) {
	ignored := func(name string) bool { return hitAny(f.Ignore, name, literal) }
	group := func(name string) string {
		for _, class := range []bool{false, true} {
			for _, g := range []string{"group_0", "group_1"} {
				for _, target := range f.Groups[g].Targets {
					if class && target == "Linear" || !class && target != "Linear" && hitAny([]string{target}, name, literal) {
						return f.kindOf(g)
					}
				}
			}
		}
		return ""
	}
	if m.experts {
		skip, err := agree(m, ignored)
		if err != nil || skip {
			return "", err
		}
		return agree(m, group)
	}
	skip := ignored(m.name)
	if !skip && m.shards != nil {
		var err error
		if skip, err = agree(m, ignored); err != nil {
			return "", err
		}
	}
	if skip {
		return "", nil
	}
	got := group(m.name)
	if got == "" && m.shards != nil {
		var err error
		if got, err = agree(m, group); err != nil {
			return "", err
		}
	}
	if got == "" && strict {
		return "", fmt.Errorf("%s: unable to find matching target", m.name)
	}
	return got, nil
}

func vllmCT(cfg *glm.Config, f ctFile, m runtimeModule) (string, error) {
	return ctDecide(f, m, func(e, name string) bool { return vllmMapped(cfg, e) == name }, false)
}

func sglangCT(f ctFile, m runtimeModule) (string, error) {
	return ctDecide(f, m, func(e, name string) bool { return e == name || strings.HasSuffix(name, "."+e) }, true)
}

// fp8File is an hf-fp8 config as an engine reads it, indexed for speed.
type fp8File struct {
	List  []string `json:"modules_to_not_convert"`
	exact map[string]bool
	skip  map[string]bool // layers whose experts a contained name skips
}

func parseFP8(cfg *glm.Config, raw json.RawMessage) (fp8File, error) {
	f := fp8File{exact: map[string]bool{}, skip: map[string]bool{}}
	err := json.Unmarshal(raw, &f)
	for _, e := range f.List {
		name := vllmMapped(cfg, e)
		f.exact[name] = true
		if i := strings.Index(name, ".mlp.experts"); i >= 0 {
			f.skip[name[:i+len(".mlp.experts")]] = true
		}
	}
	return f, err
}

func (f fp8File) vllm(m runtimeModule) (bool, error) {
	m.name = strings.Replace(m.name, "attn.qkv_proj", "attn.qkv", 1) // this method keeps the tower's name
	switch {
	case m.experts:
		return !f.skip[m.name], nil
	case m.vision && strings.HasSuffix(m.name, ".qkv"), m.shards == nil:
		return !f.exact[m.name], nil
	}
	skip, err := agree(m, func(s string) bool { return f.exact[s] })
	return !skip, err
}

// sglang matches entries on dot borders, with and without "model.": equal, a
// prefix, or an inner path.
func (f fp8File) sglang(m runtimeModule, words map[string]bool) (bool, error) {
	skipped := func(name string) bool {
		parts := strings.Split(name, ".")
		for i := range parts {
			for j := i + 1; j <= len(parts); j++ {
				if words[strings.Join(parts[i:j], ".")] {
					return true
				}
			}
		}
		return false
	}
	if m.shards == nil || m.experts {
		return !skipped(m.name), nil
	}
	skip, err := agree(m, skipped)
	return !skip, err
}

// sglangWords are the spellings under which an entry can match.
func (f fp8File) sglangWords() map[string]bool {
	words := map[string]bool{}
	for _, e := range f.List {
		words[e] = true
		words[strings.TrimPrefix(e, "model.")] = true
		words["model."+e] = true
	}
	return words
}

// ascendDecide is vllm-ascend's (HF names mapped, shared_head aliased) or
// SGLang's (runtime names as they are) look-up in a description.
func ascendDecide(desc map[string]string, m runtimeModule) (string, error) {
	if m.shards == nil {
		v, ok := desc[m.name+".weight"]
		if !ok {
			return "", fmt.Errorf("KeyError: %s.weight", m.name)
		}
		return v, nil
	}
	for _, s := range m.shards {
		if _, ok := desc[s+".weight"]; !ok {
			return "", fmt.Errorf("KeyError: %s.weight", s)
		}
	}
	return agree(m, func(s string) string { return desc[s+".weight"] })
}
