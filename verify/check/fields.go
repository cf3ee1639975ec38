package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/engine"
)

// checkFields names every field of the declarations that was not understood
// in full, patterns that nothing matches or that never end, and compares the
// declarations of several files.
func (s *subject) checkFields() {
	if s.decl != nil && s.decl.Declaration != nil {
		s.tellProblems(s.decl.Declaration, "config.json")
	}
	for _, name := range declaration.Files {
		s.checkFile(name)
	}
	s.checkCache()
}

// problemCodes are the findings for problems of a declaration.
var problemCodes = map[declaration.Kind]string{
	declaration.Unknown:     "quant-config-unknown-key",
	declaration.Invalid:     "quant-config-invalid",
	declaration.Unsupported: "quant-config-not-judged",
	declaration.Suspect:     "quant-config-suspect",
}

func (s *subject) tellProblems(d *declaration.Declaration, file string) {
	for _, p := range d.Problems {
		if p.Kind == declaration.Unsupported && (!d.Method.Known() || d.Method == declaration.Ascend && strings.Count(p.Path, ".") > 2) {
			continue // quant-method-unknown; description-scheme
		}
		where := p.Path
		if file != d.Root {
			where = file + ": " + where
		}
		s.add(problemCodes[p.Kind], where, "%s", p.Text)
	}
	for _, p := range d.Patterns() {
		if err := p.Err(); err != nil {
			s.add("quant-config-invalid", file, "%v: engines would hang on it", err)
		}
	}
}

// checkFile reads another file that declares a quantization and compares it
// with config.json.
func (s *subject) checkFile(name string) {
	if !s.has(name) {
		return
	}
	raw, err := s.read(name)
	if err != nil || raw == nil {
		return // the file's own check says so
	}
	d, err := declaration.File(name, raw)
	switch {
	case err != nil && name == declaration.DescriptionName: // description-invalid
	case err != nil:
		s.add("quant-config-invalid", name, "%v", err).as(Warning)
	case d.Method == declaration.Ascend:
		s.tellProblems(d, name)
	case s.decl != nil && s.decl.Root == name:
		s.tellProblems(d, name)
	case s.decl == nil && s.undeclaredBut(name): // config-not-quantized names the file
	case s.decl == nil:
		s.add("quant-config-differs", name, "it declares %s, and config.json declares no quantization; engines read none but ModelOpt's file then", d.Method).as(Warning)
		s.tellProblems(d, name)
	case d.Method != s.decl.Method:
		s.add("quant-config-differs", name, "it declares %s, config.json %s", d.Method, s.decl.Method)
	default:
		s.compareDeclarations(name, d)
	}
}

// compareDeclarations compares two files by what they say of the modules of
// the model.
func (s *subject) compareDeclarations(name string, d *declaration.Declaration) {
	for _, m := range s.modules {
		if !quantizable(m.row.Role) {
			continue
		}
		a, b := d.Of(m.row.Module), s.decl.Of(m.row.Module)
		if !a.Weights().SameCodes(b.Weights()) {
			s.add("quant-config-differs", name, "it says %s of %s, config.json says %s", a.Weights(), m.row.Module, b.Weights())
			return
		}
	}
	if a, b := d.Cache, s.decl.Cache; (a == nil) != (b == nil) || a != nil && a.Form != b.Form {
		s.add("quant-config-differs", name, "it has a key-value cache of %s, config.json has one of %s", cacheForm(a), cacheForm(b))
	}
}

// cacheForm is what a declaration makes of the key-value cache.
func cacheForm(c *declaration.Cache) string {
	if c == nil {
		return "full precision"
	}
	return c.Form.String()
}

// usual are entries that belong into every list, for modules that not every
// family or engine has (docs/facts/engine-vllm.md 2.4, docs/facts/engine-sglang.md 2.2).
var usual = lazy.Regexp(`lm_head|embed_tokens|mlp\\?\.gate\$|eh_proj|shared_head|head\$|norm\$|visual|indexer|decoder`)

// checkPatterns looks for ignore and target entries that match no module,
// neither under the checkpoint's names nor under an engine's: a misspelt
// pattern is accepted by every tool and engine without a word.
//
// Names are looked up in one pass over the model's. An expression is tried on
// each, and no more than tries times in all: what is left is not judged.
func (s *subject) checkPatterns(ctx context.Context, tries int) {
	names, cores := s.allNames()
	list := slices.Clone(s.decl.Ignore.Entries)
	for i := range s.decl.Groups {
		list = append(list, s.decl.Groups[i].Targets.Entries...)
	}
	list = slices.DeleteFunc(list, func(p *declaration.Pattern) bool {
		return p.Text == "Linear" || usual().MatchString(p.Text) || !p.IsRegexp() && cores[core(p.Text)]
	})
	within := findWithin(list, names)
	untried := 0
	for _, p := range list {
		if ctx.Err() != nil {
			return // Run says so
		}
		if within[p.Text] && !p.IsRegexp() {
			continue
		}
		switch p.How {
		case declaration.Exact, declaration.Path, declaration.Suffix: // whole parts of a name, which within has
		default:
			if tries -= len(names); tries < 0 {
				untried++
				continue
			}
			if slices.ContainsFunc(names, p.Match) {
				continue
			}
		}
		s.add("pattern-unused", "config.json: "+p.Text, "it matches no module of %s", s.cfg.Family)
	}
	if untried > 0 {
		s.add("pattern-unjudged", "config.json", "not tried: %d of the expressions; whether these match anything is not judged", untried)
	}
}

// patternTries is how often expressions are tried on names: half a minute at most.
const patternTries = 20_000_000

// findWithin returns which of the patterns' texts are names, or parts of names
// between dots.
func findWithin(list []*declaration.Pattern, names []string) map[string]bool {
	found := map[string]bool{}
	for _, p := range list {
		found[p.Text] = false
	}
	if len(found) == 0 {
		return found
	}
	for _, n := range names {
		for lo := 0; lo <= len(n); {
			next := len(n)
			for hi := lo; hi <= len(n); hi++ {
				if hi < len(n) && n[hi] != '.' {
					continue
				}
				next = min(next, hi)
				if _, ok := found[n[lo:hi]]; ok {
					found[n[lo:hi]] = true
				}
			}
			lo = next + 1
		}
	}
	return found
}

// allNames returns every name that a module has in the checkpoint or in an
// engine, and their cores. Parents and tensors count as well: published lists
// hold both.
func (s *subject) allNames() (names []string, cores map[string]bool) {
	cores = map[string]bool{}
	note := func(n string) {
		names = append(names, n)
		for c := core(n); c != "" && !cores[c]; {
			cores[c] = true
			i := strings.LastIndexByte(c, '.')
			c = c[:max(i, 0)]
		}
	}
	for _, row := range s.rows {
		if row.Param == "weight" {
			note(row.Module)
			for first, merged := range mergedNames {
				if parent, ok := strings.CutSuffix(row.Module, "."+first); ok {
					for _, n := range merged {
						note(parent + "." + n)
					}
				}
			}
			for _, prefix := range []string{"language_model.model.", "language_model.", "model."} {
				names = append(names, prefix+core(row.Module))
			}
		}
		note(row.Name)
	}
	if s.model != nil {
		for _, e := range engine.Engines {
			for _, m := range engine.Modules(engine.Newest(e), s.tableConfig(), s.decl.method == "compressed-tensors") {
				note(m.Name)
				for _, n := range m.Shards {
					note(n)
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), cores
}

// mergedNames are what engines call the modules that they merge, by the first
// of them (docs/facts/engine-vllm.md 1, docs/facts/engine-sglang.md 2).
var mergedNames = map[string][]string{
	"q_a_proj": {"fused_qkv_a_proj", "fused_qkv_a_proj_with_mqa"}, "q_proj": {"qkv_proj"}, "gate_proj": {"gate_up_proj"},
}

// core is a module's name without what families, libraries and engines put
// before it in different orders.
func core(name string) string {
	for {
		short := strings.TrimPrefix(strings.TrimPrefix(name, "model."), "language_model.")
		if short == name {
			return name
		}
		name = short
	}
}

// builtPlain reports whether every engine that is asked builds a module in
// full precision whatever its checkpoint name says: lists may hold the
// engines' own names, as published ones do for vision towers.
func (s *subject) builtPlain(module string) bool {
	if s.runtime != nil {
		return s.runtime[module]
	}
	s.runtime = map[string]bool{}
	conf, bad := s.engineConfig()
	if bad != nil || s.declErr != nil || s.model == nil {
		return false
	}
	votes, voters := map[string]int{}, 0
	for _, by := range s.releases {
		if !s.asked && engine.Guest(by.Engine, s.layout()) {
			continue
		}
		voters++
		for _, m := range engine.Modules(by, s.tableConfig(), s.decl.method == "compressed-tensors") {
			if r := engine.Resolve(by, s.cfg, conf, m); r.Err == "" && r.Unknown == "" && !r.Weight.Quantized() {
				for _, name := range m.Stored {
					votes[name]++
				}
			}
		}
	}
	for name, n := range votes {
		s.runtime[name] = n == voters
	}
	return s.runtime[module]
}

// excludeMTP says how the MTP layer is taken out of a quantization.
func (s *subject) excludeMTP() string {
	if s.decl.method == "fp8" {
		return fmt.Sprintf("list every module of the layer in modules_to_not_convert for vLLM, and model.decoder for SGLang; or quantize layer %d too", s.cfg.Layers)
	}
	return fmt.Sprintf(`add "re:.*layers\\.%d\\..*" (vLLM) and "re:model\\.decoder\\..*" (SGLang) to ignore; or quantize the layer too`, s.cfg.Layers)
}
