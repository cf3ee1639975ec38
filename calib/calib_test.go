package calib

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// opened opens a reference and makes sequences of ids.
func opened(t *testing.T, name string, sequences int) (*glm.Config, *safetensors.Checkpoint, [][]int) {
	dir := testkit.Shared(t, "reference/"+name)
	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	src, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = src.Close() })
	r := rand.New(rand.NewPCG(4, 4))
	seqs := make([][]int, sequences)
	for i := range seqs {
		seqs[i] = make([]int, 20+i%3)
		for j := range seqs[i] {
			seqs[i][j] = r.IntN(cfg.VocabSize)
		}
	}
	return cfg, src, seqs
}

func TestFixedSumsAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	var one, left, right fixed
	exact := 0.0
	for i := range 4000 {
		x := float32(r.NormFloat64() * math.Pow(2, float64(r.IntN(30)-15)))
		one.add(square(x))
		exact += float64(x) * float64(x)
		if i < 1234 {
			left.add(square(x))
		} else {
			right.add(square(x))
		}
		v, rest := one.float()
		require.Equal(t, one, sumOf(v, rest))
	}
	left.add(right)
	assert.Equal(t, one, left)
	v, _ := one.float()
	assert.InEpsilon(t, exact, v, 1e-12)
}

// TestPartsAreOneRun: statistics in three parts are those of one run, bit for bit,
// whatever the number of workers.
func TestPartsAreOneRun(t *testing.T) {
	for _, name := range []string{"nano-glm4moe", "nano-glm5"} {
		t.Run(name, func(t *testing.T) {
			cfg, src, seqs := opened(t, name, 40)
			one, three := t.TempDir(), t.TempDir()
			collect := func(dir string, i, n, workers int) {
				part, first := Part(seqs, i, n)
				st, err := Collect(context.Background(), cfg, src, part, CollectOptions{First: first, Workers: workers})
				require.NoError(t, err)
				st.Source, err = SourceID(src)
				require.NoError(t, err)
				require.NoError(t, st.Write(fsx.OS, dir, i, n))
			}
			collect(one, 1, 1, 2)
			for i := range 3 {
				collect(three, i+1, 3, 1)
			}
			want, err := Read(one)
			require.NoError(t, err)
			got, err := Read(three)
			require.NoError(t, err)
			merged := t.TempDir()
			require.NoError(t, got.Write(fsx.OS, merged, 1, 1))
			a, err := os.ReadFile(filepath.Join(one, PartName(1, 1)))
			require.NoError(t, err)
			b, err := os.ReadFile(filepath.Join(merged, PartName(1, 1)))
			require.NoError(t, err)
			assert.True(t, string(a) == string(b), "bytes differ")
			assert.Equal(t, want.ID(), got.ID())
			require.NoError(t, want.Close())
			defer func() { _ = got.Close() }()
			coverage, err := got.Coverage(cfg)
			require.NoError(t, err)
			for _, c := range coverage {
				assert.Equal(t, cfg.Experts, c.Experts)
			}

			require.NoError(t, os.Remove(filepath.Join(three, PartName(2, 3))))
			_, err = Read(three)
			assert.ErrorIs(t, err, ErrStatistics)
		})
	}
}

// TestGather: states on disk and little memory, a run that is ended in any layer
// and goes on: the file is that of Collect.
func TestGather(t *testing.T) {
	for _, name := range []string{"nano-glm4moe", "nano-glm52"} {
		t.Run(name, func(t *testing.T) {
			cfg, src, seqs := opened(t, name, 12)
			want := t.TempDir()
			st, err := Collect(t.Context(), cfg, src, seqs, CollectOptions{First: 3})
			require.NoError(t, err)
			st.Source, err = SourceID(src)
			require.NoError(t, err)
			require.NoError(t, st.Write(fsx.OS, want, 1, 2))

			o := GatherOptions{CollectOptions: CollectOptions{First: 3, Workers: 1}, Dir: t.TempDir(), Part: 1, Parts: 2, Scratch: filepath.Join(t.TempDir(), "states")}
			_, err = Gather(t.Context(), cfg, src, seqs, GatherOptions{CollectOptions: CollectOptions{MaxMemory: 64 << 20}, Scratch: o.Scratch})
			require.ErrorIs(t, err, quant.ErrMemory)
			for stop := range cfg.Layers + 1 {
				ctx, cancel := context.WithCancel(t.Context())
				began := -1
				o.Progress = func(l, _ int64, _ string) {
					if began < 0 {
						began = int(l)
					}
					if int(l) == stop {
						cancel()
					}
				}
				_, err := Gather(ctx, cfg, src, seqs, o)
				cancel()
				require.ErrorIs(t, err, context.Canceled)
				assert.Equal(t, max(stop-1, 0), began, "finished layers are not run again")
				if stop == 1 { // what is damaged is not gone on with
					path := filepath.Join(o.Scratch, statesFile(1))
					raw, err := os.ReadFile(path)
					require.NoError(t, err)
					raw[len(raw)/2] ^= 1
					require.NoError(t, os.WriteFile(path, raw, 0o600))
					require.False(t, wholeStates(o.Scratch, 1, ""))
					raw[len(raw)/2] ^= 1
					require.NoError(t, os.WriteFile(path, raw, 0o600))
				}
			}
			g := &gatherer{collector: &collector{cfg: cfg, o: o.CollectOptions, seqs: seqs}}
			all, err := g.collector.room()
			require.NoError(t, err)
			assert.Equal(t, 12*21, all)
			o.Progress = nil
			small := seqs[0]
			for _, s := range seqs {
				small = map[bool][]int{true: s, false: small}[len(s) > len(small)]
			}
			for limit := int64(97 << 20); ; limit += 1 << 20 { // the least that holds a sequence
				g.collector.o.MaxMemory = limit
				if n, err := g.collector.room(); err == nil {
					assert.Less(t, n, all)
					assert.GreaterOrEqual(t, n, len(small))
					o.MaxMemory = limit
					break
				}
			}
			got, err := Gather(t.Context(), cfg, src, seqs, o)
			require.NoError(t, err)
			whole, err := st.Coverage(cfg)
			require.NoError(t, err)
			coverage, err := got.Coverage(cfg)
			require.NoError(t, err)
			assert.Equal(t, whole, coverage)
			assert.NoDirExists(t, o.Scratch)
			a, err := os.ReadFile(filepath.Join(want, PartName(1, 2)))
			require.NoError(t, err)
			b, err := os.ReadFile(filepath.Join(o.Dir, PartName(1, 2)))
			require.NoError(t, err)
			assert.True(t, string(a) == string(b), "bytes differ")
		})
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := Read(dir)
	require.ErrorIs(t, err, ErrStatistics)
	require.NoError(t, os.WriteFile(filepath.Join(dir, PartName(1, 1)), []byte("{}"), 0o600))
	_, err = Read(dir)
	require.Error(t, err)
}

// codesOf solves and returns every code and scale.
func codesOf(t *testing.T, plan *quant.Plan, src *safetensors.Checkpoint, o SolveOptions) map[string][]byte {
	sol, err := Solve(context.Background(), plan, src, o)
	require.NoError(t, err)
	defer func() { _ = sol.Close() }()
	out := map[string][]byte{}
	for i := range plan.Items {
		it := &plan.Items[i]
		x, ok := sol.store.shapes[it.Name()]
		if !ok {
			continue
		}
		m, err := sol.Codes().Rows(it.Name(), plan.Spec(it), nil, 0, x.rows)
		require.NoError(t, err)
		out[it.Name()] = append(append([]byte(nil), m.Codes...), toBytes(m.Scales)...)
	}
	return out
}

// TestSolveIsRepeatable: workers change no code, nor does a run that was stopped
// and goes on.
func TestSolveIsRepeatable(t *testing.T) {
	for _, c := range []struct {
		model  string
		scheme quant.Scheme
		format layout.Format
		mtp    layout.MTPMode
	}{
		{"nano-glm4moe-outliers", quant.W4A16, layout.CompressedTensors, layout.MTPQuantize},
		{"nano-glm52", quant.W4A8, layout.Ascend, layout.MTPAuto},
		{"nano-glm5", quant.FP8Block, layout.CompressedTensors, layout.MTPAuto},
		{"nano-glm4moe", quant.NVFP4A16, layout.ModelOpt, layout.MTPQuantize},
		{"nano-glm5", quant.MXFP4, layout.CompressedTensors, layout.MTPAuto},
	} {
		t.Run(c.model+" "+string(c.scheme), func(t *testing.T) {
			_, src, seqs := opened(t, c.model, 16)
			plan, err := quant.NewPlan(src, c.scheme, c.format, quant.Options{MTP: c.mtp, Fold: quant.FoldGamma})
			require.NoError(t, err)
			want := codesOf(t, plan, src, SolveOptions{Sequences: seqs, Scratch: t.TempDir(), Workers: 1})
			require.NotEmpty(t, want)

			scratch := t.TempDir()
			ctx, cancel := context.WithCancel(context.Background())
			_, err = Solve(ctx, plan, src, SolveOptions{Sequences: seqs, Scratch: scratch, Workers: 2, Progress: func(done, _ int64, _ string) {
				if done == 2 {
					cancel()
				}
			}})
			require.ErrorIs(t, err, context.Canceled)
			require.FileExists(t, filepath.Join(scratch, layerFile(1)))
			// With the least memory: a sequence at a time, inputs and codes in files.
			filed := false
			files := func(of string) []string {
				left, err := filepath.Glob(filepath.Join(scratch, of))
				require.NoError(t, err)
				return left
			}
			got := codesOf(t, plan, src, SolveOptions{Sequences: seqs, Scratch: scratch, Workers: 2, MaxMemory: Need(plan, 22), Progress: func(int64, int64, string) {
				filed = filed || len(files("*codes.bin*")) > 0
			}})
			assert.True(t, filed)
			assert.Empty(t, append(files("*inputs*"), files("*codes.bin*")...))
			same := func(got map[string][]byte) {
				require.Len(t, got, len(want))
				for name := range want {
					require.True(t, string(want[name]) == string(got[name]), name)
				}
			}
			same(got)
			// With moments in files, a few rows of them in memory.
			scratch, filed = t.TempDir(), false
			same(codesOf(t, plan, src, SolveOptions{Sequences: seqs, Scratch: scratch, Workers: 2, filed: 64 << 10, Progress: func(int64, int64, string) {
				filed = filed || len(files(".moments-*")) > 0
			}}))
			assert.True(t, filed)
			assert.Empty(t, append(files("*inputs*"), files("*moments*")...))
		})
	}
}

// TestSolveRefuses what cannot be.
func TestSolveRefuses(t *testing.T) {
	_, src, seqs := opened(t, "nano-glm4moe", 4)
	plan, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	_, err = Solve(context.Background(), plan, src, SolveOptions{Sequences: seqs, Scratch: t.TempDir(), MaxMemory: 64 << 20})
	assert.ErrorIs(t, err, quant.ErrMemory)
}

// TestNormFolds: outliers go into the weights, gains that damp them stay, and
// without samples to tell gains go.
func TestNormFolds(t *testing.T) {
	for _, c := range []struct {
		name, model string
		bare        bool
		spread      int // powers of two, at least
	}{
		{"damping", "nano-glm4moe", false, 0},
		{"spreading", "nano-glm4moe-outliers", false, 3},
		{"latent attention, spreading", "nano-glm5-outliers", false, 3},
		{"damping, no samples", "nano-glm4moe", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, src, seqs := opened(t, c.model, 20)
			st, err := Collect(t.Context(), cfg, src, seqs, CollectOptions{})
			require.NoError(t, err)
			if c.bare {
				for _, m := range st.held {
					m.keys, m.rows = nil, nil
				}
			}
			plan, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{})
			require.NoError(t, err)
			set, err := SearchFolds(t.Context(), plan, src, st, FoldOptions{Workers: 2})
			require.NoError(t, err)
			items := map[string]*quant.Item{}
			for i := range plan.Items {
				items[plan.Items[i].Name()] = &plan.Items[i]
			}
			gains := 0
			for _, site := range plan.FoldSites() {
				if site.Kind != fold.Norm || site.Layer >= cfg.Layers {
					continue
				}
				gamma, err := gammaOf(src, items[site.Name])
				require.NoError(t, err)
				e := set.Get(site.Name)
				assert.GreaterOrEqual(t, e.Spread(), c.spread, site.Name)
				if c.bare {
					assert.Equal(t, gamma, e, site.Name)
				} else if slices.Equal(gamma, e) {
					gains++
				}
			}
			assert.True(t, c.bare || c.spread > 0 || gains == 0, "gains that damp outliers went")
		})
	}
}

// TestSearchFolds: the twin's outliers are folded away, and the folded weights
// are nearer to the source's outputs.
func TestSearchFolds(t *testing.T) {
	cfg, src, seqs := opened(t, "nano-glm4moe-outliers", 60)
	st, err := Collect(context.Background(), cfg, src, seqs, CollectOptions{})
	require.NoError(t, err)
	plan, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	set, err := SearchFolds(context.Background(), plan, src, st, FoldOptions{Workers: 2})
	require.NoError(t, err)
	spread := 0
	for _, name := range set.Names() {
		spread = max(spread, set.Get(name).Spread())
	}
	assert.Greater(t, spread, 3)
	again, err := SearchFolds(context.Background(), plan, src, st, FoldOptions{Workers: 1})
	require.NoError(t, err)
	assert.Equal(t, set.Hash(), again.Hash())

	folded, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{Fold: quant.FoldSearch, Folds: set})
	require.NoError(t, err)
	codes, err := Weighted(folded, st)
	require.NoError(t, err)
	require.NoError(t, folded.Learn(codes))
	_, err = convert.Run(context.Background(), folded, src, filepath.Join(t.TempDir(), "out"), convert.Options{})
	require.NoError(t, err)
}
