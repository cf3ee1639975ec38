package quant

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
)

// patterns are Options.Ignore and Options.Target: module names as the
// checkpoint spells them, or "re:" and a pattern that matches from the start,
// as engines read such lists.
type patterns struct {
	ignore, target []pattern
}

type pattern struct {
	*declaration.Pattern
	used bool
}

func newPatterns(ignore, target []string) (*patterns, error) {
	p := &patterns{}
	for list, texts := range map[*[]pattern][]string{&p.ignore: ignore, &p.target: target} {
		for _, text := range texts {
			pt, err := declaration.Parse(text, declaration.Exact)
			if err != nil {
				return nil, fail(ErrPattern, "patterns are those of Python's re.match", "%v", err)
			}
			*list = append(*list, pattern{Pattern: pt})
		}
	}
	return p, nil
}

// see notes which patterns match a tensor's module.
func (p *patterns) see(t glm.Tensor) {
	for _, list := range [][]pattern{p.ignore, p.target} {
		for i := range list {
			if !list[i].used && list[i].Match(t.Module) {
				list[i].used = true
			}
		}
	}
}

// unused refuses a pattern that matches nothing: a typing error would
// otherwise quantise what was meant to stay.
func (p *patterns) unused() error {
	for use, list := range map[string][]pattern{"ignore": p.ignore, "target": p.target} {
		for _, pt := range list {
			if err := pt.Err(); err != nil {
				return fail(ErrPattern, "write it without repetitions within repetitions", "%s %v", use, err)
			}
			if !pt.used {
				return fail(ErrPattern, "patterns are module names without .weight, or re: and a pattern anchored at the start",
					"%s pattern %q matches no module of this checkpoint", use, pt.Text)
			}
		}
	}
	return nil
}

// keep reports whether the user wants the module left alone.
func (p *patterns) keep(module string) bool {
	for i := range p.ignore {
		if p.ignore[i].Match(module) {
			return true
		}
	}
	if len(p.target) == 0 {
		return false
	}
	for i := range p.target {
		if p.target[i].Match(module) {
			return false
		}
	}
	return true
}
