package mutate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

// sameFiles are other files with the same tensors, and files more.
func sameFiles() []Fault {
	extra := func(name, content string) Fault {
		return Fault{Name: "with " + name, Apply: with(content, name)}
	}
	return []Fault{
		{Name: "in one file", Bare: true, Apply: resharded(1)},
		{Name: "in three files", Bare: true, Apply: resharded(3)},
		{Name: "in five files", Bare: true, Apply: resharded(5)},
		{Name: "in one file without an index", Bare: true, Apply: func(m Made) (bool, error) {
			if hit, err := resharded(1)(m); !hit || err != nil {
				return hit, err
			}
			name, err := indexOf(m.Dir)
			if err != nil {
				return false, err
			}
			return true, os.Remove(filepath.Join(m.Dir, name))
		}},
		{Name: "tensors in another order", Apply: reordered},
		{Name: "norms in F32", Apply: onSet(func(s Set) bool {
			return s.widen(func(n string) bool { return strings.HasSuffix(n, "layernorm.weight") })
		})},
		{Name: "the final norm in F32", Apply: onSet(func(s Set) bool {
			return s.widen(func(n string) bool { return strings.HasSuffix(n, "model.norm.weight") })
		})},
		{Name: "as a hub's cache keeps it", Apply: cached},
		{Name: "with links to files within", Apply: func(m Made) (bool, error) {
			name := filepath.Join(m.Dir, tokenizerSets)
			if err := os.Rename(name, filepath.Join(m.Dir, "settings.json")); err != nil {
				return false, err
			}
			return true, os.Symlink("settings.json", name)
		}},
		{Name: "an index without its size", Apply: inIndex(lose("metadata"))},
		{Name: "an index with more metadata", Apply: inIndex(func(m map[string]any) bool {
			return set("1", "metadata", "total_parameters")(m)
		})},
		extra("README.md", "# A model\n"), extra("LICENSE", "MIT\n"), extra(".gitattributes", "*.safetensors filter=lfs\n"), extra("recipe.yaml", "default_stage: {}\n"),
		extra(".cache/huggingface/download/config.json.metadata", "x\n"), extra("assets/logo.svg", "<svg/>\n"), extra(".DS_Store", "x"),
		extra("special_tokens_map.json", "{\"eos_token\": \"<|endoftext|>\"}\n"), extra("added_tokens.json", "{}\n"), extra("results.json", "{\"mmlu\": 0.5}\n"),
		extra("figures/plot.png", "x"), extra("docs/usage.txt", "x"), extra("quantize.log", "done\n"), extra("checksums.txt", "x\n"),
	}
}

// inIndex changes the index.
func inIndex(fn func(map[string]any) bool) func(Made) (bool, error) {
	return func(m Made) (bool, error) {
		name, err := indexOf(m.Dir)
		if err != nil || name == "" {
			return false, err
		}
		return EditJSON(m.Dir, name, fn)
	}
}

func indexOf(dir string) (string, error) {
	c, err := safetensors.OpenDir(dir)
	if err != nil {
		return "", err
	}
	return c.IndexName(), c.Close()
}

// resharded spreads the tensors over n files.
func resharded(n int) func(Made) (bool, error) {
	return onSet(func(s Set) bool {
		names := s.Names(func(string) bool { return true })
		base := "model"
		if strings.HasPrefix(s[names[0]].File, "quant_model_weights") {
			base = "quant_model_weights"
		}
		for i, name := range names {
			s[name].File = fmt.Sprintf("%s-%05d-of-%05d.safetensors", base, i*n/len(names)+1, n)
		}
		return true
	})
}

// reordered writes the tensors of each file in the reverse order.
func reordered(m Made) (bool, error) {
	c, err := safetensors.OpenDir(m.Dir)
	if err != nil {
		return false, err
	}
	files := map[string][]*Tensor{}
	for _, x := range c.Tensors() {
		t := &Tensor{safetensors.Spec{Name: x.Name, DType: x.DType, Shape: slices.Clone(x.Shape)}, x.File, make([]byte, x.Size)}
		if err := c.ReadAt(x, 0, t.Data); err != nil {
			return false, errors.Join(err, c.Close())
		}
		files[x.File] = append(files[x.File], t)
	}
	if err := c.Close(); err != nil {
		return false, err
	}
	for file, list := range files {
		slices.SortFunc(list, func(a, b *Tensor) int { return strings.Compare(b.Name, a.Name) })
		slices.SortStableFunc(list, func(a, b *Tensor) int { return b.DType.Bits() - a.DType.Bits() })
		if err := writeShard(m.Dir, file, list); err != nil {
			return false, err
		}
	}
	return true, forge(m.Dir)
}

// widen stores BF16 tensors as F32.
func (s Set) widen(match func(string) bool) bool {
	hit := false
	for _, n := range s.Names(match) {
		t := s[n]
		if t.DType != safetensors.BF16 {
			continue
		}
		out := make([]byte, 0, 2*len(t.Data))
		for i := 0; i < len(t.Data); i += 2 {
			out = append(out, 0, 0, t.Data[i], t.Data[i+1])
		}
		t.DType, t.Data, hit = safetensors.F32, out, true
	}
	return hit
}

// cached lays the folder out as a hub's cache does: links to blobs.
func cached(m Made) (bool, error) {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return false, err
	}
	root := m.Dir + "-hub"
	blobs, shot := filepath.Join(root, "blobs"), filepath.Join(root, "snapshots", "0123456789abcdef")
	for _, dir := range []string{blobs, shot} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return false, err
		}
	}
	for i, e := range entries {
		blob := fmt.Sprintf("%064x", i+1)
		if err := os.Rename(filepath.Join(m.Dir, e.Name()), filepath.Join(blobs, blob)); err != nil {
			return false, err
		}
		if err := os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(shot, e.Name())); err != nil {
			return false, err
		}
	}
	if err := os.Remove(m.Dir); err != nil {
		return false, err
	}
	return true, os.Symlink(shot, m.Dir)
}
