package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/bench/limits"
	"github.com/glmconv/glmconv/internal/synth"
)

// The test binary plays the peers: a converter that takes memory and time, and
// a driver that answers.
func TestMain(m *testing.M) {
	switch os.Getenv("PEER") {
	case "converter":
		b := bytes.Repeat([]byte{1}, 64<<20)
		for start := time.Now(); time.Since(start) < 50*time.Millisecond; {
			b[0]++
		}
		out := os.Args[1]
		if err := errors.Join(os.Mkdir(out, 0o700), os.WriteFile(filepath.Join(out, "x.safetensors"), b[:1], 0o600)); err != nil {
			panic(err)
		}
		os.Exit(0)
	case "broken":
		fmt.Fprintln(os.Stderr, "Traceback (most recent call last):\n  x\nValueError: no such scheme\nsee the manual")
		os.Exit(1)
	case "driver":
		fmt.Println(`{"version": "1.2"}`)
		in := json.NewDecoder(os.Stdin)
		for {
			var r struct{ M int }
			if in.Decode(&r) != nil {
				os.Exit(0)
			}
			if r.M == 0 {
				fmt.Println(`{"error": "RuntimeError: m is 0"}`)
				continue
			}
			fmt.Printf("{\"seconds\": %d.5}\n", r.M)
		}
	}
	os.Exit(m.Run())
}

func TestMeasured(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.MkdirAll(filepath.Join(out, "left over"), 0o700))
	u, err := measured(t.Context(), out, []string{"PEER=converter"}, os.Args[0], out)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, u.wall, 50*time.Millisecond)
	assert.Positive(t, u.cpu)
	if runtime.GOOS == "linux" || runtime.GOOS == "darwin" {
		assert.Greater(t, u.peak, int64(64<<20))
	}
	assert.NoDirExists(t, filepath.Join(out, "left over"))

	_, err = measured(t.Context(), out, []string{"PEER=broken"}, os.Args[0], out)
	assert.ErrorContains(t, err, "ValueError: no such scheme")
}

func TestServer(t *testing.T) {
	var hello struct{ Version string }
	s, err := start(&hello, []string{"PEER=driver"}, os.Args[0])
	require.NoError(t, err)
	assert.Equal(t, "1.2", hello.Version)
	d, err := s.seconds(map[string]int{"m": 3})
	require.NoError(t, err)
	assert.Equal(t, 3500*time.Millisecond, d)
	_, err = s.seconds(map[string]int{"m": 0})
	assert.EqualError(t, err, "RuntimeError: m is 0")
	require.NoError(t, s.close())

	_, err = start(&hello, []string{"PEER=broken"}, os.Args[0])
	assert.ErrorContains(t, err, "ValueError: no such scheme")
}

func TestRatioIsOfPairs(t *testing.T) {
	// the machine was three times slower in the second pair, for both
	r := Row{Lower: true, Ours: []float64{1, 3, 2}, Theirs: []float64{10, 30, 30}}
	assert.InDelta(t, 10, r.Ratio(), 1e-9)
	r.Lower = false
	assert.InDelta(t, 0.1, r.Ratio(), 1e-9)
	assert.Zero(t, (&Row{}).Ratio())
	assert.InDelta(t, 2.5, limits.MedianOf([]float64{4, 1, 3, 2}), 1e-9)
}

// fake is a task whose peer fails from the n-th pair on.
type fake struct{ n, opened int }

func (f *fake) rows() []Row {
	return []Row{{Figure: "a", Peer: "p 1", Unit: "s", Lower: true, Target: 2}, {Figure: "b", Peer: "p 1", Unit: "GB/s"}}
}
func (f *fake) open(context.Context) error { f.opened++; return nil }
func (f *fake) close() error               { return nil }
func (f *fake) pair(context.Context) (ours, theirs []float64, err error) {
	if f.n--; f.n < 0 {
		return nil, nil, errors.New("peer: out of memory")
	}
	return []float64{1, 2}, []float64{3, 4}, nil
}

func TestTakeGoesOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.json")
	res, err := load(file)
	require.NoError(t, err)
	f := &fake{n: 3}
	store := func() error { return res.store(file) }
	require.NoError(t, take(t.Context(), f, res, 5, 2, store))
	require.Len(t, res.Rows, 2)
	assert.Len(t, res.Rows[0].Ours, 2)

	res, err = load(file)
	require.NoError(t, err)
	require.NoError(t, take(t.Context(), f, res, 5, 2, store))
	assert.Len(t, res.Rows[1].Theirs, 3, "earlier pairs count, and those before a failure")
	assert.Equal(t, "peer: out of memory", res.Rows[0].Problem)

	require.NoError(t, take(t.Context(), f, res, 3, 0, store))
	assert.Equal(t, 2, f.opened, "nothing to do")
	var table bytes.Buffer
	require.NoError(t, res.table(&table))
	assert.Contains(t, table.String(), "| a | p 1 | s | 1 | 3 | 3.00 | ≥ 2 | 3 |")
	assert.Contains(t, table.String(), "| b | p 1 | GB/s | 2 | 4 | 0.50 |  | 3 |")

	require.NoError(t, os.WriteFile(file, []byte(`{"schema": "other/1"}`), 0o600))
	_, err = load(file)
	assert.ErrorContains(t, err, "other/1")
}

func TestVersionsArePinned(t *testing.T) {
	w := &workspace{root: filepath.Join("..", "..", "..")}
	for _, group := range [][]task{conversions(w), products(w), generations(w)} {
		for _, task := range group {
			for _, r := range task.rows() {
				assert.Regexp(t, `^[a-z-]+ \d+\.`, r.Peer)
			}
		}
	}
}

func TestReadPerToken(t *testing.T) {
	w := &workspace{dir: t.TempDir()}
	raw := `{"model_type":"glm4_moe","architectures":["Glm4MoeForCausalLM"],"hidden_size":64,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":32,
"intermediate_size":64,"moe_intermediate_size":32,"n_routed_experts":4,"num_experts_per_tok":2,"n_shared_experts":1,"num_hidden_layers":2,
"first_k_dense_replace":1,"n_group":1,"topk_group":1,"norm_topk_prob":true,"routed_scaling_factor":1.0,"vocab_size":32,"max_position_embeddings":64,
"rms_norm_eps":1e-5,"rope_theta":10000,"partial_rotary_factor":0.5,"attention_bias":true,"use_qk_norm":false,"hidden_act":"silu",
"tie_word_embeddings":false,"torch_dtype":"bfloat16","num_nextn_predict_layers":0,"eos_token_id":[1],"pad_token_id":1}`
	dir, err := w.write(t.Context(), "m", synth.Options{Config: []byte(raw), MTP: synth.MTPNone})
	require.NoError(t, err)
	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	got, err := readPerToken(dir, cfg)
	require.NoError(t, err)
	attention := 64*(64+2*32) + 64*64
	dense, expert, router, head := 3*64*64, 3*64*32, 4*64, 32*64
	assert.InDelta(t, float64(2*(2*attention+dense+router+(2+1)*expert+head)), got, 0.5)
}
