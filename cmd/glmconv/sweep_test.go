package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/calib"
	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
)

// The sweeps let every command that writes fail, be killed and lose power at
// every point they can reach, and then hold the directory to the promise of
// docs/design.md, rule 6. They take a fixed sample, and more of it for as long as
// GLMCONV_TORTURE says (a duration for each suite); counts go to the file that
// GLMCONV_TORTURE_COUNTS names, one JSON object a line.

// job is a command that writes.
type job struct {
	name string
	args []string // "{}" is the job's own folder
	// again is what completes the work after an interruption; nil: args.
	again []string
	// start fills the job's folder; nil: it is empty.
	start func(t *testing.T, dir string)
	// whole says whether the folder claims to be complete, which it then must be.
	whole func(t *testing.T, dir string) bool
	heavy bool // takes seconds: fewer points
	// done is the exit code of a command that finds its work done, where that is
	// not 0.
	done int
}

// setting is a job with what it must end in.
type setting struct {
	job
	dir, src  string
	before    map[string]string // hashes of the folder at the start
	want      map[string]string // and at the end
	srcHashes map[string]string
}

// tinySource writes half a megabyte in five shards, with an MTP layer that lacks
// its copies.
func tinySource(t *testing.T) string {
	t.Helper()
	return tinyShards(t, 300<<10)
}

// tinyShards is tinySource in shards of another size.
func tinyShards(t *testing.T, size int64) string {
	t.Helper()
	const config = `{"architectures": ["Glm4MoeForCausalLM"], "attention_bias": true, "eos_token_id": [2], "first_k_dense_replace": 1, "head_dim": 32,
 "hidden_act": "silu", "hidden_size": 128, "intermediate_size": 256, "max_position_embeddings": 512, "model_type": "glm4_moe", "moe_intermediate_size": 128,
 "n_group": 1, "n_routed_experts": 2, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 4, "num_experts_per_tok": 1, "num_hidden_layers": 2,
 "num_key_value_heads": 2, "num_nextn_predict_layers": 1, "pad_token_id": 0, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05, "rope_theta": 10000,
 "routed_scaling_factor": 1.0, "tie_word_embeddings": false, "topk_group": 1, "topk_method": "noaux_tc", "torch_dtype": "bfloat16",
 "use_qk_norm": false, "vocab_size": 512}`
	plan, err := synth.NewPlan(synth.Options{Config: []byte(config), Seed: 5, ShardBytes: size})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "source")
	require.NoError(t, plan.Write(t.Context(), dir))
	return dir
}

// broken copies a checkpoint with what repair puts right: a tensor twice, no
// index, what a download left, and a shard that has to be written anew.
func broken(t *testing.T, src, dst string) {
	t.Helper()
	require.NoError(t, os.CopyFS(dst, os.DirFS(src)))
	require.NoError(t, os.Remove(filepath.Join(dst, safetensors.IndexName)))
	shards, err := filepath.Glob(filepath.Join(dst, "*.safetensors"))
	require.NoError(t, err)
	first, err := safetensors.OpenFile(shards[0])
	require.NoError(t, err)
	defer first.Close()
	info := first.Tensors()[0]
	data := make([]byte, info.Size)
	require.NoError(t, first.ReadTensor(info, 0, data))
	plan, err := safetensors.PlanFile("model-extra.safetensors", []safetensors.Spec{{Name: info.Name, DType: info.DType, Shape: info.Shape}}, nil)
	require.NoError(t, err)
	w, err := safetensors.Create(nil, dst, plan)
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dst, shards[0][len(dst)+1:]+".aria2"), []byte("x"), 0o644))
}

// jobs are the commands that write, over a source; server is one to measure.
func jobs(src, trained, server string) []job {
	quantize := func(extra ...string) []string {
		return append([]string{"quantize", "--scheme", "w8a8", "--progress", "none", "--workers", "2", src, "{}/dst"}, extra...)
	}
	copySource := func(t *testing.T, dir string) {
		require.NoError(t, os.CopyFS(filepath.Join(dir, "model"), os.DirFS(src)))
	}
	finished := func(t *testing.T, dir string) bool { return wholeResult(t, filepath.Join(dir, "dst")) }
	old := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o644))
			}
		}
	}
	replaced := func(t *testing.T, dir string) bool { return len(leftovers(t, dir)) == 0 }
	learnt := func(extra ...string) []string {
		return append([]string{"quantize", "--scheme", "w8a8", "--progress", "none", "--calib", "{}/stats", "--method", "gptq", trained, "{}/dst"}, extra...)
	}
	return []job{
		{name: "quantize", args: quantize(), again: quantize("--resume"), whole: finished},
		{name: "quantize ascend", args: []string{"quantize", "--scheme", "w4a8", "--format", "ascend", "--progress", "none", src, "{}/dst"},
			again: []string{"quantize", "--resume", "--scheme", "w4a8", "--format", "ascend", "--progress", "none", src, "{}/dst"}, whole: finished},
		{name: "quantize part", args: quantize("--index", "2", "--count", "2"), again: quantize("--resume"), whole: finished},
		{name: "quantize --resume", args: quantize("--resume"), start: func(t *testing.T, dir string) {
			require.Equal(t, exitOK, quiet(t, fill(quantize("--index", "1", "--count", "2"), dir)))
		}, whole: finished},
		{name: "mtp-remap", args: []string{"mtp-remap", "--progress", "none", "{}/model"}, start: copySource,
			whole: func(t *testing.T, dir string) bool { return opens(t, filepath.Join(dir, "model")) }},
		{name: "mtp-remap --out", args: []string{"mtp-remap", "--progress", "none", "--out", "{}/dst", src},
			whole: func(t *testing.T, dir string) bool { return indexed(t, filepath.Join(dir, "dst")) }},
		{name: "mtp-remap --undo", args: []string{"mtp-remap", "--undo", "{}/model"}, start: func(t *testing.T, dir string) {
			copySource(t, dir)
			require.Equal(t, exitOK, quiet(t, []string{"mtp-remap", "--progress", "none", filepath.Join(dir, "model")}))
		}, whole: func(t *testing.T, dir string) bool { return opens(t, filepath.Join(dir, "model")) }, done: exitBadInput},
		{name: "repair", args: []string{"repair", "{}/model"}, start: func(t *testing.T, dir string) { broken(t, src, filepath.Join(dir, "model")) },
			whole: func(*testing.T, string) bool { return false }},
		{name: "repair --out", args: []string{"repair", "{}/broken", "--out", "{}/dst"}, start: func(t *testing.T, dir string) { broken(t, src, filepath.Join(dir, "broken")) },
			whole: func(t *testing.T, dir string) bool { return !unfinished(dir) && indexed(t, filepath.Join(dir, "dst")) }, done: exitUsage},
		{name: "repair --undo", args: []string{"repair", "{}/model", "--undo"}, start: func(t *testing.T, dir string) {
			broken(t, src, filepath.Join(dir, "model"))
			require.Equal(t, exitOK, quiet(t, []string{"repair", filepath.Join(dir, "model")}))
		}, whole: func(*testing.T, string) bool { return false }, done: exitBadInput},
		{name: "calibrate", args: []string{"calibrate", "--progress", "none", "--token-ids", trained + "-ids.json", "--tokens", "3", trained, "{}/stats"},
			again: []string{"calibrate", "--resume", "--progress", "none", "--token-ids", trained + "-ids.json", "--tokens", "3", trained, "{}/stats"},
			whole: func(t *testing.T, dir string) bool {
				st, err := calib.Read(filepath.Join(dir, "stats"))
				if err != nil {
					return false
				}
				require.NoError(t, st.Close())
				return true
			}},
		{name: "quantize --calib", heavy: true, args: learnt(), again: learnt("--resume"), whole: finished, start: func(t *testing.T, dir string) {
			require.NoError(t, os.CopyFS(filepath.Join(dir, "stats"), os.DirFS(trained+"-stats")))
		}},
		{name: "plan --save", start: old("plan.json"), whole: replaced, args: []string{"plan", "--scheme", "w8a8", "--save", "{}/plan.json", src}},
		{name: "bench --save-json", start: old("bench.json"), whole: replaced,
			args: []string{"bench", server, "--num-prompts", "1", "--warmup", "0", "--input-len", "4", "--tokenizer", trained, "--save-json", "{}/bench.json"}},
		{name: "verify reports", heavy: true, start: old("r.html", "r.json", "r.xml"), whole: replaced,
			args: []string{"verify", "--skip-forward", "--progress", "none", "--report", "{}/r.html",
				"--json", "{}/r.json", "--junit", "{}/r.xml", trained, trained + "-w8a8"}},
		{name: "logits", heavy: true, start: old("x.safetensors"), whole: replaced,
			args: []string{"logits", "--progress", "none", "--token-ids", trained + "-ids.json", "--out", "{}/x.safetensors", trained}},
		{name: "demo --out", heavy: true, args: []string{"demo", "--progress", "none", "--out", "{}/demo", "--report", "{}/demo.html"},
			whole: func(*testing.T, string) bool { return false }},
	}
}

// answering is the address of a server that answers every chat with two words.
func answering(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/chat/completions") {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, word := range []string{"a", "b"} {
			fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", word)
		}
		fmt.Fprint(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n")
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// settings prepares every job and runs it once undisturbed.
func settings(t *testing.T, keep func(job) bool) []*setting {
	t.Helper()
	if raceDetector {
		t.Skip("SKIPPED: sweeps run commands hundreds of times; the race detector sees the same code in other tests")
	}
	src := tinySource(t)
	trained := filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, demo.Extract(trained))
	require.NoError(t, os.WriteFile(trained+"-ids.json", []byte("[[1,2,3]]"), 0o644))
	require.Equal(t, exitOK, quiet(t, []string{"quantize", "--scheme", "w8a8", "--progress", "none", trained, trained + "-w8a8"}))
	require.Equal(t, exitOK, quiet(t, []string{"calibrate", "--progress", "none", "--token-ids", trained + "-ids.json", "--tokens", "3", trained, trained + "-stats"}))
	var out []*setting
	for _, j := range jobs(src, trained, answering(t)) {
		if !keep(j) {
			continue
		}
		s := &setting{job: j, dir: filepath.Join(t.TempDir(), "dir"), src: src, srcHashes: tree(t, src)}
		s.reset(t)
		s.before = tree(t, s.dir)
		require.Equal(t, exitOK, quiet(t, s.fill(s.args)), s.name)
		if s.again != nil {
			require.Equal(t, exitOK, quiet(t, s.fill(s.again)), s.name)
		}
		s.want = tree(t, s.dir)
		out = append(out, s)
	}
	return out
}

// reset makes the job's folder as it is at the start.
func (s *setting) reset(t *testing.T) {
	t.Helper()
	require.NoError(t, os.RemoveAll(s.dir))
	require.NoError(t, os.Mkdir(s.dir, 0o755))
	if s.start != nil {
		s.start(t, s.dir)
	}
}

func (s *setting) fill(args []string) []string { return fill(args, s.dir) }

func fill(args []string, dir string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = strings.ReplaceAll(a, "{}", dir)
	}
	return out
}

// tree returns name → hash of all files below dir. Reports have seconds in them:
// of those it says that they are whole. What learning left to go on from is no
// part of a result.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := testkit.FileSums(t, dir)
	maps.DeleteFunc(out, func(name, _ string) bool { return strings.HasPrefix(name, filepath.Join("stats", "scratch")) })
	for name := range out {
		ends := map[string]string{"r.html": "</html>", "demo.html": "</html>", "r.xml": "</testsuites>", "r.json": "}", "bench.json": "}"}[name]
		if ends != "" {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			if strings.HasSuffix(strings.TrimSpace(string(raw)), ends) {
				out[name] = "a whole report"
			}
		}
	}
	return out
}

// quiet runs a command and returns its exit code.
func quiet(t *testing.T, args []string) int { code, _ := runCommand(t, args); return code }

func runCommand(t *testing.T, args []string) (code int, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), append([]string{"glmconv"}, args...), &out, &errOut)
	assert.NotContains(t, errOut.String(), "goroutine ")
	return code, errOut.String()
}

// wholeResult reports whether dst claims to be a finished conversion, in which
// case every byte must be as its manifest says.
func wholeResult(t *testing.T, dst string) bool {
	t.Helper()
	m, err := quant.ReadManifest(dst)
	if err != nil {
		return false
	}
	for _, f := range m.Files {
		sum, size, err := safetensors.HashFile(filepath.Join(dst, f.Name))
		require.NoError(t, err)
		require.Equal(t, f.SHA256, sum, f.Name)
		require.Equal(t, f.Size, size, f.Name)
	}
	return true
}

// opens demands that a checkpoint that was changed in place can be used.
func opens(t *testing.T, dir string) bool {
	t.Helper()
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err, "it worked before and does not now")
	require.NoError(t, c.Close())
	return false // before or after: either is good
}

// indexed demands that a directory with an index is a checkpoint.
func indexed(t *testing.T, dir string) bool {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, safetensors.IndexName)); err != nil {
		return false
	}
	return opens(t, dir)
}

// unfinished tells whether the folder dst in dir is marked as such.
func unfinished(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "dst", fsx.StateDir))
	return err == nil
}

// leftovers returns the temporary files below dir.
func leftovers(t *testing.T, dir string) (out []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && fsx.IsTemp(path) {
			out = append(out, path)
		}
		return err
	}))
	return out
}

// promise holds a folder to what docs/design.md promises, whatever befell
// the job in it: it is complete, or the same work completes it with the same
// bytes; the source is as it was.
func (s *setting) promise(t *testing.T, what string) {
	t.Helper()
	require.Equal(t, s.srcHashes, tree(t, s.src), "%s: the source was touched", what)
	if s.whole(t, s.dir) {
		now := tree(t, s.dir)
		maps.DeleteFunc(now, func(name, _ string) bool { return strings.Contains(name, ".glmconv") })
		want := maps.Clone(s.want)
		for name, sum := range now {
			if sum == s.before[name] {
				want[name] = sum // a file that is still the old one, whole
			}
		}
		require.Equal(t, want, now, "%s: it calls itself complete", what)
	} else if s.again != nil {
		s.saysUnfinished(t, what)
	}
	again := s.args
	if s.again != nil {
		again = s.again
	}
	code, text := runCommand(t, s.fill(again))
	if s.done != 0 && code == s.done {
		code = exitOK // it was done
	}
	require.Equal(t, exitOK, code, "%s: cannot be completed: %s", what, text)
	require.Equal(t, s.want, tree(t, s.dir), "%s: completed, it has other bytes", what)
}

// saysUnfinished demands that a conversion that is not finished is neither taken
// for a finished one nor begun anew over what is there.
func (s *setting) saysUnfinished(t *testing.T, what string) {
	t.Helper()
	shards, err := filepath.Glob(filepath.Join(s.dir, "dst", "*.safetensors"))
	require.NoError(t, err)
	if len(shards) == 0 || strings.Contains(s.name, "part") {
		return
	}
	code, text := runCommand(t, s.fill(s.args))
	require.Equal(t, exitUsage, code, "%s: %s", what, text)
	require.Contains(t, text, "--resume", what)
	require.NotEqual(t, exitOK, quiet(t, []string{"check", "--progress", "none", filepath.Join(s.dir, "dst")}), "%s: check takes it for finished", what)
}

// count is what a suite did with a job.
type count struct {
	Suite   string `json:"suite"`
	Job     string `json:"job"`
	Points  int    `json:"points"`  // faults, cuts, kills that were tried
	Hit     int    `json:"hit"`     // that befell the command
	Skipped string `json:"skipped"` // why there are none
}

// budget is how long each suite goes on beyond its sample.
func budget() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("GLMCONV_TORTURE"))
	return d
}

var countsLock sync.Mutex

// record notes a count and says it.
func record(t *testing.T, c count) {
	t.Helper()
	t.Logf("%s, %s: %d points, %d hit%s", c.Suite, c.Job, c.Points, c.Hit, map[bool]string{true: "; SKIPPED: " + c.Skipped}[c.Skipped != ""])
	path := os.Getenv("GLMCONV_TORTURE_COUNTS")
	if path == "" {
		return
	}
	countsLock.Lock()
	defer countsLock.Unlock()
	line, err := json.Marshal(c)
	require.NoError(t, err)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	_, err = fmt.Fprintf(f, "%s\n", line)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// spread picks up to n of the numbers 1 to total, evenly, both ends among them.
func spread(total, n int) []int {
	var out []int
	for i := range min(n, total) {
		out = append(out, 1+i*(total-1)/max(min(n, total)-1, 1))
	}
	return slices.Compact(out)
}
