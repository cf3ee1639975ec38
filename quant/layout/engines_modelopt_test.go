package layout

import (
	"path"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// modelOptRules are the rules of docs/facts/formats.md 4.4 for one list of
// exclusions. Nothing here is shared with the writers.
type modelOptRules struct {
	Exclude []string `json:"ignore"`
}

// globbed is fnmatch: names have no slashes.
func globbed(entry, name string) bool {
	ok, err := path.Match(entry, name)
	return ok && err == nil
}

func (f modelOptRules) vllm(cfg *glm.Config, m runtimeModule) (quantized bool, err error) {
	var list []string
	for _, e := range f.Exclude {
		switch {
		case cfg.Vision != nil && strings.HasSuffix(e, "*") && !strings.HasSuffix(e, ".*"):
			list = append(list, vllmMapped(cfg, strings.TrimSuffix(e, "*")), vllmMapped(cfg, e[:len(e)-1]+".*"))
		case cfg.Vision != nil:
			list = append(list, vllmMapped(cfg, e))
		default:
			list = append(list, e)
		}
	}
	has := func(name string) bool {
		for _, e := range list {
			if e == name {
				return true
			}
		}
		return false
	}
	if !m.experts && len(m.shards) > 0 {
		all, err := agree(m, func(s string) bool { return has(s) })
		if err != nil || all {
			return false, err
		}
	}
	for _, e := range list {
		if strings.Contains(m.name, e) || strings.Contains(strings.TrimPrefix(m.name, "language_model."), e) || globbed(e, m.name) ||
			m.experts && strings.Contains(e, m.name) {
			return false, nil
		}
	}
	return true, nil
}

func (f modelOptRules) sglang(m runtimeModule) (quantized bool, err error) {
	within := func(entry, name string) bool { return strings.Contains("."+name+".", "."+entry+".") }
	skipped := func(name string) bool {
		for _, e := range f.Exclude {
			if within(e, name) {
				return true
			}
		}
		return false
	}
	if !m.experts {
		if skipped(m.name) {
			return false, nil
		}
		if len(m.shards) > 0 {
			all, err := agree(m, skipped)
			if err != nil || all {
				return false, err
			}
		}
	}
	for _, e := range f.Exclude {
		if globbed(e, m.name) || globbed(e, strings.TrimPrefix(m.name, "language_model.")) {
			return false, nil
		}
		for _, part := range strings.Split(m.name, ".") {
			if globbed(e, part) {
				return false, nil
			}
		}
		last := m.name[strings.LastIndexByte(m.name, '.')+1:]
		for _, p := range []string{"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"} {
			if (e == p || strings.HasSuffix(e, "."+p)) && strings.Contains(last, p) {
				return false, nil
			}
		}
	}
	return true, nil
}
