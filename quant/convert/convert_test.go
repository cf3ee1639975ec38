package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// demoModel returns the folder of the built-in checkpoint.
func demoModel(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, demo.Extract(dir))
	return dir
}

func open(t testing.TB, dir string) *safetensors.Checkpoint {
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

var models = []string{"nano-glm4moe", "tiny-glm4moe", "nano-glm5", "nano-glm52", "nano-glm45v"}

// Every scheme × format of every reference model converts, or is refused with
// a rule; the result is complete.
func TestConvertEverything(t *testing.T) {
	for _, model := range models {
		src := open(t, testkit.Shared(t, "reference/"+model))
		for _, s := range layout.Schemes {
			for _, f := range layout.Formats {
				if layout.Supported(s, f) != nil || s == layout.BF16 || s.Calibrated() {
					continue
				}
				t.Run(model+" "+string(s)+" "+string(f), func(t *testing.T) {
					p, err := quant.NewPlan(src, s, f, quant.Options{})
					if s == quant.W4A8FP8 {
						var impossible *layout.ImpossibleError
						require.ErrorAs(t, err, &impossible)
						assert.Contains(t, impossible.Rule, "% 256")
						return
					}
					require.NoError(t, err)
					var bytes int64
					for _, info := range src.Tensors() {
						bytes += info.Size
					}
					assert.Equal(t, bytes, p.SourceBytes)
					dst := filepath.Join(t.TempDir(), "out")
					res, err := Run(context.Background(), p, src, dst, Options{Workers: 2})
					require.NoError(t, err)
					require.Empty(t, res.Pending)
					require.NotEmpty(t, res.Stats.Schemes)
					m, err := quant.ReadManifest(dst)
					require.NoError(t, err)
					got := testkit.FileSums(t, dst)
					assert.Len(t, got, len(m.Files)+1)
					for _, file := range m.Files {
						assert.Equal(t, file.SHA256, got[file.Name], file.Name)
					}
					_, err = os.Stat(filepath.Join(dst, fsx.StateDir))
					assert.ErrorIs(t, err, os.ErrNotExist)
				})
			}
		}
	}
}

// With compat every quantised tensor has llm-compressor's bytes.
func TestCompatBytes(t *testing.T) {
	names := map[string]struct {
		s quant.Scheme
		f quant.Format
	}{"FP8_DYNAMIC": {quant.FP8, ""}, "FP8_BLOCK": {quant.FP8Block, layout.CompressedTensors},
		"W8A8": {quant.W8A8, layout.CompressedTensors}, "W4A8": {quant.W4A8, layout.CompressedTensors}}
	for _, model := range models[:2] {
		src := open(t, testkit.Shared(t, "reference/"+model))
		raw, err := os.ReadFile(testkit.Shared(t, "reference/golden/"+model+"/quantized_tensors.json"))
		require.NoError(t, err)
		var golden map[string]map[string]struct {
			SHA256 string
			Shape  []int64
		}
		require.NoError(t, json.Unmarshal(raw, &golden))
		for name, c := range names {
			p, err := quant.NewPlan(src, c.s, c.f, quant.Options{Arith: numeric.Compat, MTP: layout.MTPQuantize})
			require.NoError(t, err)
			dst := filepath.Join(t.TempDir(), "out")
			_, err = Run(context.Background(), p, src, dst, Options{})
			require.NoError(t, err)
			out := open(t, dst)
			equal := 0
			for _, info := range out.Tensors() {
				want, ok := golden[name][info.Name]
				require.True(t, ok, info.Name)
				b := make([]byte, info.Size)
				require.NoError(t, out.ReadAt(info, 0, b))
				sum := sha256.Sum256(b)
				if hex.EncodeToString(sum[:]) != want.SHA256 {
					// kept by our rules, quantised by the reference run
					assert.Equal(t, safetensors.BF16, info.DType, "%s %s", name, info.Name)
					assert.Contains(t, info.Name, "layers.0.mlp.", "%s: only the 688-column MLP stays", info.Name)
					continue
				}
				assert.Equal(t, want.Shape, info.Shape)
				equal++
			}
			t.Logf("%s %s: %d of %d tensors equal", model, name, equal, len(golden[name]))
			assert.GreaterOrEqual(t, equal, len(golden[name])-6)
		}
	}
}

func TestSameBytes(t *testing.T) {
	dir := demoModel(t)
	src := open(t, dir)
	for _, f := range []quant.Format{layout.Ascend, layout.CompressedTensors} {
		p, err := quant.NewPlan(src, quant.W4A8, f, quant.Options{ShardSize: 600_000})
		require.NoError(t, err)
		run := func(dst string, o Options) *Result {
			res, err := Run(context.Background(), p, src, dst, o)
			require.NoError(t, err)
			return res
		}
		one := filepath.Join(t.TempDir(), "one")
		run(one, Options{Workers: 1})
		want := testkit.FileSums(t, one)
		for _, w := range []int{2, 4, 7} {
			dst := filepath.Join(t.TempDir(), "many")
			run(dst, Options{Workers: w})
			assert.Equal(t, want, testkit.FileSums(t, dst), "%d workers", w)
		}
		parts := filepath.Join(t.TempDir(), "parts")
		assert.NotEmpty(t, run(parts, Options{Index: 3, Count: 3}).Pending)
		run(parts, Options{Index: 1, Count: 3})
		assert.Empty(t, run(parts, Options{Index: 2, Count: 3}).Pending)
		assert.Equal(t, want, testkit.FileSums(t, parts))
		assert.True(t, run(parts, Options{}).AlreadyDone)
	}
}

func TestInterruptedRunsResume(t *testing.T) {
	src := open(t, demoModel(t))
	p, err := quant.NewPlan(src, quant.W8A8, "", quant.Options{ShardSize: 300_000})
	require.NoError(t, err)
	whole := filepath.Join(t.TempDir(), "whole")
	_, err = Run(context.Background(), p, src, whole, Options{})
	require.NoError(t, err)
	want := testkit.FileSums(t, whole)
	for stop := int64(0); stop < p.SourceBytes; stop += p.SourceBytes / 7 {
		dst := filepath.Join(t.TempDir(), "dst")
		ctx, cancel := context.WithCancel(context.Background())
		_, err := Run(ctx, p, src, dst, Options{Workers: 2, Progress: func(done, _ int64, _ string) {
			if done >= stop {
				cancel()
			}
		}})
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			for name := range testkit.FileSums(t, dst) {
				assert.NotEqual(t, quant.ManifestName, name)
				if strings.HasSuffix(name, ".safetensors") {
					assert.Equal(t, want[name], testkit.FileSums(t, dst)[name], "%s has its final name before it is complete", name)
				}
			}
			_, err = Run(context.Background(), p, src, dst, Options{})
			require.Error(t, err, "an unfinished directory needs --resume")
			other, err2 := quant.NewPlan(src, quant.FP8, "", quant.Options{})
			require.NoError(t, err2)
			_, err = Run(context.Background(), other, src, dst, Options{Resume: true})
			require.ErrorContains(t, err, "another plan")
		}
		_, err = Run(context.Background(), p, src, dst, Options{Resume: true})
		require.NoError(t, err)
		assert.Equal(t, want, testkit.FileSums(t, dst))
	}
}
