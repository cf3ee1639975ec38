package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// TestLogits: the file holds what the contract lists, for sequences shorter
// than the draft steps too, with the runtime's very bits.
func TestLogits(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm4moe")
	tmp := t.TempDir()
	ids, out := filepath.Join(tmp, "ids.json"), filepath.Join(tmp, "out.safetensors")
	require.NoError(t, os.WriteFile(ids, []byte("[[990, 992, 17, 4, 300, 301], [990]]"), 0o600))
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), []string{"glmconv", "logits", dir, "--token-ids", ids, "--out", out, "--mtp", "2", "--hidden"}, &stdout, &stderr)
	require.Equal(t, exitOK, code, stderr.String())

	f, err := safetensors.OpenFile(out)
	require.NoError(t, err)
	defer f.Close()
	const v, h, k = 1088, 128, 2
	want := map[string][]int64{}
	for i, n := range []int64{6, 1} {
		want[fmt.Sprintf("logits.%d", i)] = []int64{n, v}
		for l := range 4 {
			want[fmt.Sprintf("hidden.%d.%d", l, i)] = []int64{n, h}
		}
		want[fmt.Sprintf("hidden.final.%d", i)] = []int64{n, h}
		for _, l := range []int{1, 2} { // layer 0 is dense
			want[fmt.Sprintf("router.%d.%d", l, i)] = []int64{n, k}
		}
		for step := range int64(2) {
			want[fmt.Sprintf("mtp.%d.%d", step+1, i)] = []int64{max(0, n-step-1), v}
		}
	}
	got := map[string][]int64{}
	for _, x := range f.Tensors() {
		got[x.Name] = x.Shape
		d := safetensors.F32
		if x.Name[:6] == "router" {
			d = safetensors.I32
		}
		assert.Equal(t, d, x.DType, x.Name)
	}
	assert.Equal(t, want, got)

	m, err := runtime.Load(dir, runtime.Options{})
	require.NoError(t, err)
	defer func() { _ = m.Close() }()
	e, err := m.Evaluate(context.Background(), [][]int{{990, 992, 17, 4, 300, 301}}, runtime.EvalOptions{Logits: true, MTP: 2})
	require.NoError(t, err)
	for name, x := range map[string][]float32{"logits.0": e[0].Logits, "mtp.1.0": e[0].MTP[0], "mtp.2.0": e[0].MTP[1]} {
		info, _ := f.Tensor(name)
		b := make([]byte, info.Size)
		require.NoError(t, f.ReadTensor(info, 0, b))
		for i, y := range x {
			require.Equal(t, math.Float32bits(y), binary.LittleEndian.Uint32(b[4*i:]), "%s[%d]", name, i)
		}
	}
}

func TestLogitsRefuses(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm4moe")
	tmp := t.TempDir()
	write := func(s string) string {
		name := filepath.Join(tmp, "ids.json")
		require.NoError(t, os.WriteFile(name, []byte(s), 0o600))
		return name
	}
	out := filepath.Join(tmp, "out.safetensors")
	for _, c := range []struct {
		ids, out string
		code     int
		says     string
		more     []string
	}{
		{"[[1]]", "", exitUsage, "--out is required", nil},
		{"[[1]]", filepath.Join(dir, "x.safetensors"), exitUsage, "engines would read it as weights", nil},
		{"[[1]]", out, exitUsage, "--mtp must be", []string{"--mtp", "-1"}},
		{"[1, 2]", out, exitBadInput, "no JSON array of arrays", nil},
		{"[[1], []]", out, exitBadInput, "sequence 1 is empty", nil},
		{"[]", out, exitBadInput, "no sequence", nil},
		{"[[1, 1088]]", out, exitBadInput, "sequence 0, token 1 is 1088", nil},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"glmconv", "logits", dir, "--token-ids", write(c.ids), "--out", c.out}, c.more...)
		assert.Equal(t, c.code, run(context.Background(), args, &stdout, &stderr), c.says)
		assert.Contains(t, stderr.String(), c.says)
		assert.NoFileExists(t, out)
	}
}
