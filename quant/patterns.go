package quant

import (
	"strings"

	"github.com/dlclark/regexp2"

	"github.com/glmconv/glmconv/glm"
)

// patterns are the user's --ignore and --target: module names as the
// checkpoint spells them, or "re:" and a pattern that matches from the start,
// as engines read such lists.
type patterns struct {
	ignore, target []pattern
}

type pattern struct {
	text string
	re   *regexp2.Regexp
	used bool
}

func newPatterns(ignore, target []string) (*patterns, error) {
	p := &patterns{}
	for list, texts := range map[*[]pattern][]string{&p.ignore: ignore, &p.target: target} {
		for _, text := range texts {
			pt := pattern{text: text}
			if expr, ok := strings.CutPrefix(text, "re:"); ok {
				re, err := regexp2.Compile(`\A(?:`+expr+`)`, regexp2.None)
				if err != nil {
					return nil, fail(ErrPattern, "patterns are those of Python's re.match", "pattern %q: %v", text, err)
				}
				pt.re = re
			}
			*list = append(*list, pt)
		}
	}
	return p, nil
}

func (p *pattern) match(module string) bool {
	if p.re == nil {
		return p.text == module
	}
	ok, err := p.re.MatchString(module)
	return ok && err == nil
}

// see notes which patterns match a tensor's module.
func (p *patterns) see(t glm.Tensor) {
	for _, list := range [][]pattern{p.ignore, p.target} {
		for i := range list {
			if !list[i].used && list[i].match(t.Module) {
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
			if !pt.used {
				return fail(ErrPattern, "patterns are module names without .weight, or re: and a pattern anchored at the start",
					"%s pattern %q matches no module of this checkpoint", use, pt.text)
			}
		}
	}
	return nil
}

// keep reports whether the user wants the module left alone.
func (p *patterns) keep(module string) bool {
	for i := range p.ignore {
		if p.ignore[i].match(module) {
			return true
		}
	}
	if len(p.target) == 0 {
		return false
	}
	for i := range p.target {
		if p.target[i].match(module) {
			return false
		}
	}
	return true
}
