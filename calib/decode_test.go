package calib

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// exactFP8 is a reference in FP8 blocks whose scales are powers of two, and what
// it decodes to, which BF16 holds exactly.
func exactFP8(t *testing.T, name string, mtp layout.MTPMode) (fp8, bf16 *safetensors.Checkpoint) {
	_, src, _ := opened(t, name, 1)
	to := func(src *safetensors.Checkpoint, s quant.Scheme, f layout.Format) string {
		p, err := quant.NewPlan(src, s, f, quant.Options{MTP: mtp})
		require.NoError(t, err)
		dir := filepath.Join(t.TempDir(), "out")
		_, err = convert.Run(t.Context(), p, src, dir, convert.Options{})
		require.NoError(t, err)
		return dir
	}
	open := func(dir string) *safetensors.Checkpoint {
		c, err := safetensors.OpenDir(dir)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	dir := to(src, quant.FP8Block, layout.HFFP8)
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	for _, x := range c.Tensors() {
		if !strings.HasSuffix(x.Name, "_scale_inv") {
			continue
		}
		raw := make([]byte, x.Size)
		require.NoError(t, c.ReadAt(x, 0, raw))
		for i := 0; i < len(raw); i += 4 {
			_, e := math.Frexp(float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[i:]))))
			binary.LittleEndian.PutUint32(raw[i:], math.Float32bits(float32(math.Ldexp(1, e))))
		}
		f, err := os.OpenFile(filepath.Join(dir, x.File), os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(raw, x.Offset)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	require.NoError(t, c.Close())
	fp8 = open(dir)
	return fp8, open(to(fp8, quant.BF16, ""))
}

// TestSolveOfFP8: codes learnt of an FP8 source are those learnt of what it
// decodes to, and so are the figures of its units.
func TestSolveOfFP8(t *testing.T) {
	for _, c := range []struct {
		model  string
		scheme quant.Scheme
		format layout.Format
		mtp    layout.MTPMode
	}{
		{"nano-glm4moe", quant.W4A16, layout.CompressedTensors, layout.MTPQuantize},
		{"nano-glm52", quant.W8A8, layout.Ascend, layout.MTPAuto},
	} {
		t.Run(c.model+" "+string(c.scheme), func(t *testing.T) {
			_, _, seqs := opened(t, c.model, 8)
			fp8, bf16 := exactFP8(t, c.model, c.mtp)
			plan := func(src *safetensors.Checkpoint) *quant.Plan {
				p, err := quant.NewPlan(src, c.scheme, c.format, quant.Options{MTP: c.mtp, Fold: quant.FoldGamma})
				require.NoError(t, err)
				return p
			}
			p, q := plan(fp8), plan(bf16)
			require.Equal(t, q.Folds.Hash(), p.Folds.Hash())
			stored := 0
			for i := range p.Items {
				if p.Items[i].Stored != nil {
					stored++
				}
			}
			require.Positive(t, stored)
			want := codesOf(t, q, bf16, SolveOptions{Sequences: seqs, Scratch: t.TempDir(), Workers: 2})
			got := codesOf(t, p, fp8, SolveOptions{Sequences: seqs, Scratch: t.TempDir(), Workers: 1})
			require.Len(t, got, len(want))
			for name := range want {
				require.True(t, string(want[name]) == string(got[name]), name)
			}

			cfg, err := glm.LoadConfig(bf16.Dir())
			require.NoError(t, err)
			st, err := Collect(t.Context(), cfg, bf16, seqs[:4], CollectOptions{})
			require.NoError(t, err)
			units := func(p *quant.Plan, src *safetensors.Checkpoint) []Unit {
				m, err := NewMix(p, src, engine.Query{})
				require.NoError(t, err)
				require.NoError(t, m.Measure(context.Background(), st, MeasureOptions{Sequences: seqs[4:]}))
				return m.Units
			}
			assert.Equal(t, units(q, bf16), units(p, fp8))
		})
	}
}

// TestSolveAfterAFailedWrite: states stay where those behind them could not be
// written, the next run goes on there, and what a killed run left goes.
func TestSolveAfterAFailedWrite(t *testing.T) {
	_, src, seqs := opened(t, "nano-glm4moe", 4)
	plan, err := quant.NewPlan(src, quant.W4A16, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	dir := t.TempDir()
	o := SolveOptions{Sequences: seqs, Scratch: dir, Workers: 2}
	full := errors.New("no space left")
	o.FS = &fsx.Faulty{FS: fsx.OS, FailAt: 2, Err: full, Match: func(op, name string) bool { return op == "rename" && strings.Contains(name, "states-00002") }}
	_, err = Solve(t.Context(), plan, src, o)
	require.ErrorIs(t, err, full)
	for _, m := range []string{"float", "served"} {
		assert.FileExists(t, filepath.Join(dir, m, statesFile(1)))
	}
	f, err := fsx.CreateTemp(fsx.OS, filepath.Join(dir, "inputs-7.bin"))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	o.FS = nil
	got := codesOf(t, plan, src, o)
	assert.NoFileExists(t, f.Name())
	o.Scratch = t.TempDir()
	assert.Equal(t, codesOf(t, plan, src, o), got)
}

// TestPairsAreInterrupted: sums over inputs end with the run's context.
func TestPairsAreInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &solver{rows: 2 * spillRows, room: 1 << 20, interrupted: ctx.Err}
	x, err := s.spill(4)
	require.NoError(t, err)
	require.NoError(t, x.put(make([]float32, 4*s.rows)))
	n := 0
	err = (&pairs{x, x, nil}).each(func(_, _ []float32) error { n++; cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, n)
}
