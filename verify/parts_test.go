package verify_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/report"
)

// inParts runs a comparison in parts, through files, and merges them in another
// order.
func inParts(t *testing.T, src, dst string, o verify.Options, count int) *verify.Result {
	t.Helper()
	var list []*verify.Partial
	dir := t.TempDir()
	for i := 1; i <= count; i++ {
		list = append(list, aPart(t, filepath.Join(dir, fmt.Sprint(i)), src, dst, o, i, count))
	}
	rand.New(rand.NewPCG(1, uint64(count))).Shuffle(count, func(i, j int) { list[i], list[j] = list[j], list[i] })
	r, err := verify.Merge(list)
	require.NoError(t, err)
	return r
}

// aPart runs one part, writes it and reads it again.
func aPart(t *testing.T, name, src, dst string, o verify.Options, i, count int) *verify.Partial {
	t.Helper()
	p, err := verify.ComparePart(t.Context(), src, dst, o, i, count, "test")
	require.NoError(t, err)
	f, err := os.Create(name)
	require.NoError(t, err)
	_, err = p.WriteTo(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	p, err = verify.ReadPartial(name, "test")
	require.NoError(t, err)
	return p
}

// asJSON is the verdict as a script reads it, without what the machines spent.
func asJSON(t *testing.T, r *verify.Result) string {
	t.Helper()
	r.Seconds, r.PeakRSS, r.Bytes = 0, 0, 0
	var b bytes.Buffer
	require.NoError(t, report.JSON(&b, r))
	return b.String()
}

// TestPartsGiveTheVerdictOfOneRun: to the last bit, for results that pass and
// that fail, whatever the number of parts and their order.
func TestPartsGiveTheVerdictOfOneRun(t *testing.T) {
	few := verify.Options{Tokens: 320, SeqLen: 32, MaxMemory: 4 * 64 * (4*4*128 + 9<<10)} // several batches
	for name, tc := range map[string]struct {
		model  string
		scheme layout.Scheme
		format layout.Format
		o      verify.Options
		damage func(t *testing.T, dst string)
		want   verify.Verdict
	}{
		"w8a8":          {"nano-glm4moe", layout.W8A8, layout.CompressedTensors, verify.Options{Tokens: 320, SeqLen: 32}, nil, verify.Pass},
		"w4a8 ascend":   {"nano-glm52", layout.W4A8, layout.Ascend, few, nil, verify.Pass},
		"static":        {"nano-glm5", layout.FP8Block, layout.HFFP8, verify.Options{SkipForward: true}, nil, verify.Pass},
		"stops early":   {"nano-glm4moe", layout.W8A8, layout.CompressedTensors, verify.Options{Tokens: 1280, SeqLen: 32, MaxMemory: few.MaxMemory, Tol: 0.5}, nil, verify.Pass},
		"too few":       {"nano-glm4moe", layout.W8A8, layout.CompressedTensors, verify.Options{Tokens: 64, SeqLen: 32}, nil, verify.Undecided},
		"flipped":       {"nano-glm4moe", layout.W8A8, layout.CompressedTensors, verify.Options{Tokens: 160, SeqLen: 32}, flipEverywhere, verify.Fail},
		"no manifest":   {"nano-glm4moe", layout.W4A16, layout.CompressedTensors, verify.Options{Tokens: 160, SeqLen: 32}, dropManifest, verify.Fail},
		"cannot be run": {"nano-glm4moe", layout.W8A8, layout.CompressedTensors, verify.Options{Tokens: 160, SeqLen: 32}, dropIndexedShard, verify.Fail},
	} {
		t.Run(name, func(t *testing.T) {
			src := testkit.Shared(t, "reference/"+tc.model)
			dst := convertTo(t, src, tc.scheme, tc.format)
			if tc.damage != nil {
				tc.damage(t, dst)
			}
			one, err := verify.Compare(t.Context(), src, dst, tc.o)
			require.NoError(t, err)
			read := one.Bytes
			want := asJSON(t, one)
			if name == "stops early" {
				require.NotNil(t, one.Stopped)
			}
			if name != "no manifest" {
				require.Equal(t, tc.want, one.Verdict, want)
			}
			counts := []int{3}
			if slices.Contains([]string{"w8a8", "static", "flipped"}, name) {
				counts = []int{1, 3, 7}
			}
			for _, count := range counts {
				r := inParts(t, src, dst, tc.o, count)
				if count == 1 && one.Stopped == nil {
					assert.Equal(t, read, r.Bytes, "one part reads what one run reads")
				}
				require.Equal(t, want, asJSON(t, r), "%d parts", count)
			}
		})
	}
}

// TestPartsOnEveryPath: of a result that an NPU computes in several ways.
func TestPartsOnEveryPath(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm5")
	dst := convertAs(t, src, quant.W8A8, layout.Ascend, quant.Options{Ranges: attentionRanges()})
	o := verify.Options{Tokens: 256, SeqLen: 32, Tol: 1}
	one, err := verify.Compare(t.Context(), src, dst, o)
	require.NoError(t, err)
	require.Len(t, one.Paths, 2)
	require.Equal(t, asJSON(t, one), asJSON(t, inParts(t, src, dst, o, 3)))
}

// flipEverywhere changes a bit in the middle of every file of weights.
func flipEverywhere(t *testing.T, dst string) {
	names, err := filepath.Glob(filepath.Join(dst, "*.safetensors"))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		raw[len(raw)/2] ^= 4
		require.NoError(t, os.WriteFile(name, raw, 0o600))
	}
}

func dropManifest(t *testing.T, dst string) {
	require.NoError(t, os.Remove(filepath.Join(dst, "glmconv-manifest.json")))
}

// dropIndexedShard takes away the last file of weights.
func dropIndexedShard(t *testing.T, dst string) {
	names, err := filepath.Glob(filepath.Join(dst, "*.safetensors"))
	require.NoError(t, err)
	require.Greater(t, len(names), 1)
	require.NoError(t, os.Remove(names[len(names)-1]))
}

// TestPartsThatDoNotBelongTogether: missing, doubled, foreign and damaged parts
// are refused, by name.
func TestPartsThatDoNotBelongTogether(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
	other := convertTo(t, src, layout.FP8, layout.CompressedTensors)
	dir := t.TempDir()
	o := verify.Options{Tokens: 128, SeqLen: 32}
	more := o
	more.Tokens = 160
	loose := o
	loose.Tol = 0.3
	static := o
	static.SkipForward = true
	part := func(name, dst string, o verify.Options, i, n int) *verify.Partial {
		return aPart(t, filepath.Join(dir, name), src, dst, o, i, n)
	}
	a, b := part("a", dst, o, 1, 2), part("b", dst, o, 2, 2)
	_, err := verify.Merge([]*verify.Partial{b, a})
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		list []*verify.Partial
		says string
	}{
		"none":          {nil, "no part"},
		"missing":       {[]*verify.Partial{b}, "part 1 is missing"},
		"last missing":  {[]*verify.Partial{a}, "part 2 is missing"},
		"doubled":       {[]*verify.Partial{a, b, a}, "and so is"},
		"other count":   {[]*verify.Partial{a, part("c", dst, o, 2, 3)}, "is one of 2"},
		"other result":  {[]*verify.Partial{a, part("d", other, o, 2, 2)}, "result is another"},
		"other tokens":  {[]*verify.Partial{a, part("e", dst, more, 2, 2)}, "other tokens"},
		"other options": {[]*verify.Partial{a, part("f", dst, loose, 2, 2)}, "options"},
		"no forward":    {[]*verify.Partial{a, part("g", dst, static, 2, 2)}, "options"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verify.Merge(tc.list)
			var refused *verify.Error
			require.ErrorAs(t, err, &refused)
			assert.ErrorContains(t, err, tc.says)
		})
	}
	_, err = verify.ReadPartial(filepath.Join(dir, "a"), "next")
	require.ErrorContains(t, err, "version test")

	raw, err := os.ReadFile(filepath.Join(dir, "a"))
	require.NoError(t, err)
	bad := filepath.Join(dir, "bad")
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		at, bit := rng.IntN(len(raw)), rng.IntN(8)
		x := bytes.Clone(raw)
		x[at] ^= 1 << bit
		require.NoError(t, os.WriteFile(bad, x, 0o600))
		_, err := verify.ReadPartial(bad, "test")
		require.Error(t, err, "bit %d of byte %d", bit, at)
		require.NoError(t, os.WriteFile(bad, raw[:at], 0o600))
		_, err = verify.ReadPartial(bad, "test")
		require.Error(t, err, "the first %d bytes", at)
	}
	require.NoError(t, os.WriteFile(bad, append(bytes.Clone(raw), 0), 0o600))
	_, err = verify.ReadPartial(bad, "test")
	require.Error(t, err, "a byte more")
	_, err = verify.ComparePart(t.Context(), src, dst, o, 3, 2, "test")
	require.ErrorContains(t, err, "does not exist")
}
