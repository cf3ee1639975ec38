package engine

import (
	"strings"

	"github.com/glmconv/glmconv/quant/declaration"
)

// wildcard is SGLang's reading of an exclusion: "." is a dot, "*" anything,
// and the rest an expression of the whole text.
func (c *Config) wildcard(text, name string) bool {
	if !strings.ContainsAny(text, `*?[](){}|+\^$`) {
		return text == name
	}
	p := c.compiled("wildcard "+text, func() (*declaration.Pattern, error) {
		expr := strings.ReplaceAll(strings.ReplaceAll(text, ".", `\.`), "*", ".*")
		return declaration.New("(?:"+expr+`)\Z`, declaration.Regexp)
	})
	return p != nil && p.Match(name)
}

// glob is an entry as Python's fnmatch reads it.
func (c *Config) glob(text string) *declaration.Pattern {
	return c.compiled("glob "+text, func() (*declaration.Pattern, error) {
		if p, err := declaration.New(text, declaration.Glob); err == nil {
			return p, nil
		}
		return declaration.New(text, declaration.Exact)
	})
}

// compiled keeps a pattern that is made of the declaration once; nil: it is none.
func (c *Config) compiled(key string, build func() (*declaration.Pattern, error)) *declaration.Pattern {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.patterns[key]
	if !ok {
		if c.patterns == nil {
			c.patterns = map[string]*declaration.Pattern{}
		}
		p, _ = build()
		c.patterns[key] = p
	}
	return p
}

// listed keeps a list that is made of the declaration once.
func (c *Config) listed(key string, build func() []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, ok := c.lists[key]
	if !ok {
		if c.lists == nil {
			c.lists = map[string][]string{}
		}
		list = build()
		c.lists[key] = list
	}
	return list
}

// set is a list as a set, made once.
func (c *Config) set(key string, list []string) map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sets[key] == nil {
		if c.sets == nil {
			c.sets = map[string]map[string]bool{}
		}
		set := make(map[string]bool, len(list))
		for _, text := range list {
			set[text] = true
		}
		c.sets[key] = set
	}
	return c.sets[key]
}
