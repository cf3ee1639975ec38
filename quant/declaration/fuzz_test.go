package declaration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/declaration"
)

// FuzzFile reads any text as every file that declares a quantization: no
// panic, no hang, and no more memory than a multiple of the text.
func FuzzFile(f *testing.F) {
	paths, err := filepath.Glob("testdata/configs/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		if len(raw) < 4<<10 {
			f.Add(raw)
		}
	}
	f.Add([]byte(`{"version":"1.0.0","model_quant_type":"W8A8_DYNAMIC","model.layers.0.mlp.up_proj.weight":"W8A8_DYNAMIC","lm_head.weight":"FLOAT","fa_quant_type":"FAQuant"}`))
	names := append([]string{"config.json"}, declaration.Files...)
	f.Fuzz(func(t *testing.T, raw []byte) {
		testkit.AllocatesWithin(t, len(raw), 4096, 64<<20, func() { read(t, names, raw) })
	})
}

// read uses a declaration in every way.
func read(t *testing.T, names []string, raw []byte) {
	for _, name := range names {
		d, err := declaration.File(name, raw)
		if err != nil || d == nil {
			continue
		}
		for _, module := range []string{"", "lm_head", "model.layers.1.mlp.experts.0.gate_proj", strings.Repeat("a", 50)} {
			s := d.Of(module)
			if s.Group != nil && s.Ignored != nil {
				t.Fatalf("%s: %q is both left alone and in a group", name, module)
			}
			_, _ = s.Weights().String(), s.Input().String()
		}
		for _, p := range d.Problems {
			_ = p.String()
		}
		for i := range d.Groups {
			_ = d.FormatOf(&d.Groups[i])
		}
	}
}

// FuzzPattern: what compiles ends, and its two engines agree.
func FuzzPattern(f *testing.F) {
	for _, c := range answers(f).Regexps {
		if len(c.Pattern) < 40 {
			f.Add(c.Pattern, "model.layers.1.mlp.gate_proj")
		}
	}
	f.Add(`(?!b)(?:a|aa)+$`, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")
	f.Fuzz(func(t *testing.T, expr, name string) {
		if len(name) > 200 {
			return
		}
		for _, how := range []declaration.Match{declaration.Regexp, declaration.Search, declaration.Glob} {
			p, err := declaration.New(expr, how)
			if err != nil {
				continue
			}
			p.Match(name)
			if fast, slow, ok := p.Both(name); ok && fast != slow && p.Err() == nil {
				t.Fatalf("%s of %q: Go's regexp says %v, regexp2 %v", expr, name, fast, slow)
			}
		}
	})
}
