package repair_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/repair"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify/check"
)

// tensor is one tensor in memory.
type tensor struct {
	safetensors.Info
	data []byte
}

// edit rewrites the tensors of a folder into the files that they lie in; fn
// gives what becomes of each, none to lose it.
func edit(t *testing.T, dir string, fn func(x tensor) []tensor) {
	t.Helper()
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	files, names := map[string][]tensor{}, map[string]string{}
	var total int64
	for _, x := range c.Tensors() {
		raw, err := io.ReadAll(c.Reader(x))
		require.NoError(t, err)
		for _, y := range fn(tensor{x, raw}) {
			files[x.File] = append(files[x.File], y)
			names[y.Name] = x.File
			total += int64(len(y.data))
		}
	}
	index := c.IndexName()
	require.NoError(t, c.Close())
	for file, list := range files {
		var specs []safetensors.Spec
		for _, x := range list {
			specs = append(specs, safetensors.Spec{Name: x.Name, DType: x.DType, Shape: x.Shape})
		}
		plan, err := safetensors.PlanFile(file, specs, nil)
		require.NoError(t, err)
		w, err := safetensors.Create(fsx.OS, dir, plan)
		require.NoError(t, err)
		for _, x := range list {
			_, err = w.Write(x.data)
			require.NoError(t, err)
		}
		_, err = w.Commit()
		require.NoError(t, err)
	}
	if index == "" {
		index = safetensors.IndexName
	}
	require.NoError(t, safetensors.WriteIndex(fsx.OS, dir, index, names, total))
}

// lose drops the tensors whose name has a part.
func lose(part string) func(tensor) []tensor {
	return func(x tensor) []tensor {
		if strings.Contains(x.Name, part) {
			return nil
		}
		return []tensor{x}
	}
}

func with(name string, change func(x *tensor)) func(tensor) []tensor {
	return func(x tensor) []tensor {
		if x.Name == name {
			change(&x)
		}
		return []tensor{x}
	}
}

func reference(t *testing.T, name string) (dir, base string) {
	t.Helper()
	base = testkit.Shared(t, "reference/"+name)
	dir = filepath.Join(t.TempDir(), "model")
	require.NoError(t, os.CopyFS(dir, os.DirFS(base)))
	return dir, base
}

// converted makes a conversion without its manifest.
func converted(t *testing.T, src string, scheme quant.Scheme, format quant.Format, o quant.Options) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "converted")
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer c.Close()
	plan, err := quant.NewPlan(c, scheme, format, o)
	require.NoError(t, err)
	_, err = convert.Run(t.Context(), plan, c, dst, convert.Options{})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
	return dst
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	x, ok := c.Info(name)
	require.True(t, ok, name)
	raw, err := io.ReadAll(c.Reader(x))
	require.NoError(t, err)
	return x.DType.String() + string(raw)
}

// repaired plans and applies, and says what check finds afterwards.
func repaired(t *testing.T, dir string, o repair.Options) (*repair.Plan, *check.Report) {
	t.Helper()
	p, err := repair.NewPlan(t.Context(), dir, o)
	require.NoError(t, err)
	require.NoError(t, p.Apply(t.Context()))
	r, err := check.Run(t.Context(), dir, check.Options{Weights: true})
	require.NoError(t, err)
	again, err := repair.NewPlan(t.Context(), dir, o)
	require.NoError(t, err)
	assert.Empty(t, again.Steps, "nothing is left to do")
	return p, r
}

func TestCopiesOfOtherValues(t *testing.T) {
	for name, change := range map[string]func(x *tensor){
		"rows swapped": func(x *tensor) {
			row := len(x.data) / int(x.Shape[0])
			a := append([]byte{}, x.data[row:2*row]...)
			copy(x.data[row:], x.data[5*row:6*row])
			copy(x.data[5*row:], a)
		},
		"a row of zeros": func(x *tensor) { clear(x.data[:len(x.data)/int(x.Shape[0])]) },
		"noise": func(x *tensor) {
			for i := range x.data {
				x.data[i] ^= byte(i*7) & 1
			}
		},
		"all zero": func(x *tensor) { clear(x.data) },
		"fewer rows": func(x *tensor) {
			x.data = x.data[:len(x.data)/int(x.Shape[0])*int(x.Shape[0]-8)]
			x.Shape = []int64{x.Shape[0] - 8, x.Shape[1]}
		},
	} {
		for _, copied := range []string{"model.layers.3.embed_tokens.weight", "model.layers.3.shared_head.head.weight"} {
			t.Run(name+" "+copied, func(t *testing.T) {
				dir, base := reference(t, "nano-glm4moe")
				edit(t, dir, with(copied, change))
				p, r := repaired(t, dir, repair.Options{Copies: true})
				require.Len(t, p.Steps, 1)
				assert.Empty(t, p.Broken)
				assert.True(t, r.OK, r.Text())
				assert.Equal(t, read(t, base, copied), read(t, dir, copied))
			})
		}
	}
}

// A row that the model's own embedding lost is in the copy: it is not
// overwritten with zeros.
func TestTheCopyMayBeTheSoundOne(t *testing.T) {
	dir, base := reference(t, "nano-glm4moe")
	edit(t, dir, with("model.embed_tokens.weight", func(x *tensor) { clear(x.data[:len(x.data)/int(x.Shape[0])]) }))
	p, err := repair.NewPlan(t.Context(), dir, repair.Options{})
	require.NoError(t, err)
	assert.Empty(t, p.Steps)
	require.Len(t, p.Broken, 1)
	assert.Contains(t, p.Broken[0], "1 of its rows are zero")
	assert.Equal(t, read(t, base, "model.layers.3.embed_tokens.weight"), read(t, dir, "model.layers.3.embed_tokens.weight"))
}

// A quantized model without its MTP layer takes it in BF16, and every
// declaration then says so.
func TestMTPForQuantizedFolders(t *testing.T) {
	for name, o := range map[string]struct {
		scheme quant.Scheme
		format quant.Format
	}{
		"compressed-tensors": {"w8a8", ""},
		"packed":             {"w4a16", ""},
		"hf-fp8":             {"fp8-block", ""},
		"ascend":             {"w8a8", "ascend"},
		"ModelOpt":           {"nvfp4a16", "modelopt"},
	} {
		t.Run(name, func(t *testing.T) {
			_, base := reference(t, "nano-glm4moe")
			size := 32
			if o.format == "modelopt" {
				size = 0
			}
			dir := converted(t, base, o.scheme, o.format, quant.Options{GroupSize: size})
			edit(t, dir, lose("model.layers.3."))
			for _, file := range []string{"config.json", "quant_model_description.json", "hf_quant_config.json"} {
				forget(t, filepath.Join(dir, file), "layers.3.", "layers\\.3", "model.decoder", `model\.decoder`)
			}
			p, r := repaired(t, dir, repair.Options{Base: base})
			assert.Empty(t, p.Broken)
			assert.True(t, r.OK, r.Text())
			assert.Equal(t, read(t, base, "model.layers.3.eh_proj.weight"), read(t, dir, "model.layers.3.eh_proj.weight"))
			for _, e := range r.Engines {
				assert.Equal(t, "loads", string(e.Answer), "%s: %s", e.Engine, e.Rule)
			}
		})
	}
}

// TestExcludedByModelOpt: the list is completed in the file that engines read, and
// in both where both are there.
func TestExcludedByModelOpt(t *testing.T) {
	for name, alone := range map[string]bool{"both files": false, "its own file": true} {
		t.Run(name, func(t *testing.T) {
			_, base := reference(t, "nano-glm5")
			dir := converted(t, base, "nvfp4a16", "modelopt", quant.Options{})
			parts := []string{"shared_experts", "mlp.gate", "layers.0."}
			for _, file := range []string{"config.json", "hf_quant_config.json"} {
				forget(t, filepath.Join(dir, file), parts...)
			}
			if alone {
				forget(t, filepath.Join(dir, "config.json"), "quantization_config")
			}
			_, r := repaired(t, dir, repair.Options{})
			assert.True(t, r.OK, r.Text())
			raw, err := os.ReadFile(filepath.Join(dir, "hf_quant_config.json"))
			require.NoError(t, err)
			for _, part := range parts {
				assert.Contains(t, string(raw), part)
			}
			config, err := os.ReadFile(filepath.Join(dir, "config.json"))
			require.NoError(t, err)
			assert.Equal(t, alone, !strings.Contains(string(config), "shared_experts*"))
		})
	}
}

// TestFilesThatAreNotModelOpts: hf_quant_config.json is completed where it declares
// what config.json declares, and stays as it is elsewhere.
func TestFilesThatAreNotModelOpts(t *testing.T) {
	for _, tc := range []struct{ name, scheme, format, text, stays string }{
		{"null", "nvfp4a16", "modelopt", "null", "it is not a JSON object"},
		{"null inside", "nvfp4a16", "modelopt", `{"quantization": null}`, "quantization is not a JSON object"},
		{"a list of another method", "fp8-block", "", `{"quantization": {"exclude_modules": ["lm_head"]}}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, base := reference(t, "nano-glm5")
			dir := converted(t, base, quant.Scheme(tc.scheme), quant.Format(tc.format), quant.Options{})
			forget(t, filepath.Join(dir, "config.json"), "shared_experts", "mlp.gate", "layers.0.")
			file := filepath.Join(dir, "hf_quant_config.json")
			require.NoError(t, os.WriteFile(file, []byte(tc.text), 0o600))
			p, err := repair.NewPlan(t.Context(), dir, repair.Options{})
			require.NoError(t, err)
			if tc.stays != "" {
				assert.Contains(t, strings.Join(p.Broken, "\n"), tc.stays)
			}
			require.NoError(t, p.Apply(t.Context()))
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, tc.text, string(raw))
		})
	}
}

// forget takes entries of lists and keys out of a JSON file whose text has one
// of the parts.
func forget(t *testing.T, path string, parts ...string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return
	}
	require.NoError(t, err)
	var v any
	require.NoError(t, json.Unmarshal(raw, &v))
	has := func(s string) bool {
		for _, p := range parts {
			if strings.Contains(s, p) {
				return true
			}
		}
		return false
	}
	var walk func(v any) any
	walk = func(v any) any {
		switch x := v.(type) {
		case map[string]any:
			for k, e := range x {
				if has(k) {
					delete(x, k)
					continue
				}
				x[k] = walk(e)
			}
		case []any:
			out := []any{}
			for _, e := range x {
				if s, ok := e.(string); !ok || !has(s) {
					out = append(out, walk(e))
				}
			}
			return out
		}
		return v
	}
	raw, err = json.Marshal(walk(v))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o644))
}

// Codes come from a base that is quantized alike, and from no other.
func TestQuantizedBase(t *testing.T) {
	_, source := reference(t, "nano-glm5")
	base := converted(t, source, "w8a8", "", quant.Options{})
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, os.CopyFS(dir, os.DirFS(base)))
	edit(t, dir, lose("layers.1.mlp.experts.3."))
	_, err := repair.NewPlan(t.Context(), dir, repair.Options{Base: converted(t, source, "fp8", "", quant.Options{})})
	require.ErrorIs(t, err, repair.ErrBase)
	p, err := repair.NewPlan(t.Context(), dir, repair.Options{Base: source})
	require.NoError(t, err)
	assert.Contains(t, strings.Join(p.Broken, "\n"), "the folder is quantized there and the base model is not")
	p, r := repaired(t, dir, repair.Options{Base: base})
	assert.Empty(t, p.Broken)
	assert.True(t, r.OK, r.Text())
	assert.Equal(t, read(t, base, "model.layers.1.mlp.experts.3.up_proj.weight"), read(t, dir, "model.layers.1.mlp.experts.3.up_proj.weight"))

	plain, _ := reference(t, "nano-glm5")
	_, err = repair.NewPlan(t.Context(), plain, repair.Options{Base: base})
	assert.ErrorIs(t, err, repair.ErrBase, "codes for a folder in full precision")
}

func TestRouterBiases(t *testing.T) {
	const bias = "model.layers.1.mlp.gate.e_score_correction_bias"
	narrow := func(x *tensor) { // F32 to BF16, cut off
		var out []byte
		for i := 0; i < len(x.data); i += 4 {
			out = append(out, x.data[i+2], x.data[i+3])
		}
		x.data, x.DType = out, safetensors.BF16
	}
	dir, base := reference(t, "nano-glm5")
	edit(t, dir, with(bias, narrow))
	p, _ := repaired(t, dir, repair.Options{Base: base})
	require.Len(t, p.Steps, 1)
	assert.Equal(t, read(t, base, bias), read(t, dir, bias))

	dir, base = reference(t, "nano-glm5")
	edit(t, dir, with(bias, func(x *tensor) { x.data[3] ^= 0x80; narrow(x) }))
	p, err := repair.NewPlan(t.Context(), dir, repair.Options{Base: base})
	require.NoError(t, err)
	assert.Empty(t, p.Steps)
	assert.Contains(t, strings.Join(p.Broken, "\n"), "trained since")
}

func TestAdaptersAndLeftovers(t *testing.T) {
	dir, _ := reference(t, "nano-glm5")
	shard := "model-00002-of-00002.safetensors"
	raw, err := os.ReadFile(filepath.Join(dir, "model-00001-of-00002.safetensors"))
	require.NoError(t, err)
	for name, text := range map[string][]byte{
		"adapter_model.safetensors": raw, "adapter_config.json": []byte("{}"),
		shard + ".aria2": []byte("x"), "tokenizer.json.incomplete": []byte("x"),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	before := contents(t, dir)
	p, r := repaired(t, dir, repair.Options{})
	assert.Empty(t, p.Broken)
	assert.True(t, r.OK, r.Text())
	for _, name := range []string{"adapter_model.safetensors", "adapter_config.json", shard + ".aria2", "tokenizer.json.incomplete"} {
		assert.NoFileExists(t, filepath.Join(dir, name))
	}
	require.NoError(t, repair.Undo(dir, nil))
	assert.Equal(t, before, contents(t, dir))

	// A hole in the shard that was being written: its control file stays.
	edit(t, dir, with("model.layers.3.mlp.experts.0.up_proj.weight", func(x *tensor) { clear(x.data) }))
	p, err = repair.NewPlan(t.Context(), dir, repair.Options{})
	require.NoError(t, err)
	assert.Contains(t, strings.Join(p.Broken, "\n"), "the download was not finished")

	// The same where check sums up many more like it.
	for layer := range 3 {
		for e := range 4 {
			name := fmt.Sprintf("model.layers.%d.mlp.experts.%d.up_proj.weight", layer, e)
			if slices.Contains(names(t, dir), name) {
				edit(t, dir, with(name, func(x *tensor) { clear(x.data) }))
			}
		}
	}
	p, err = repair.NewPlan(t.Context(), dir, repair.Options{})
	require.NoError(t, err)
	assert.Contains(t, strings.Join(p.Broken, "\n"), "the download was not finished")
}

// names are those of a folder's tensors.
func names(t *testing.T, dir string) []string {
	t.Helper()
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	return c.Names()
}

// noLinks is a file system without hard links.
type noLinks struct{ fsx.FS }

func (noLinks) Link(old, new string) error {
	return &os.LinkError{Op: "link", Old: old, New: new, Err: syscall.ENOTSUP}
}

func TestNewFolderWithoutLinks(t *testing.T) {
	dir, base := withoutShard(t)
	before := contents(t, dir)
	fs := noLinks{fsx.OS}
	p, err := repair.NewPlan(t.Context(), dir, repair.Options{Base: base, FS: fs})
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "out")
	require.NoError(t, p.Into(t.Context(), out))
	require.NoError(t, p.Apply(t.Context()))
	assert.Equal(t, before, contents(t, dir))
	r, err := check.Run(t.Context(), out, check.Options{})
	require.NoError(t, err)
	assert.True(t, r.OK, r.Text())
	assert.NoDirExists(t, filepath.Join(out, ".glmconv-repair"))
	assert.NoDirExists(t, filepath.Join(out, ".glmconv"))

	p, err = repair.NewPlan(t.Context(), dir, repair.Options{Base: base, FS: fs})
	require.NoError(t, err)
	require.ErrorIs(t, p.Into(t.Context(), out), repair.ErrNotEmpty)
	require.Error(t, p.Into(t.Context(), filepath.Join(dir, "inside")))
	require.NoError(t, p.Apply(t.Context()), "in place as well")
	require.NoError(t, repair.Undo(dir, fs))
	assert.Equal(t, before, contents(t, dir))
}
