package main

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/synth"
)

// cmdCode runs "code N prog args…" and wants exactly that exit code.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := err.(interface{ ExitCode() int }); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// cmdPatch overwrites bytes: "patch FILE OFFSET BYTE…"; a negative offset
// counts from the end.
func cmdPatch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: patch file offset byte...")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	off, err := strconv.Atoi(args[1])
	ts.Check(err)
	if off < 0 {
		off += len(b)
	}
	for i, s := range args[2:] {
		v, err := strconv.ParseUint(s, 0, 8)
		ts.Check(err)
		b[off+i] = byte(v)
	}
	ts.Check(os.WriteFile(path, b, 0o644))
}

// cmdTruncate cuts a file: "truncate FILE BYTES" takes bytes off its end.
func cmdTruncate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: truncate file bytes")
	}
	path := ts.MkAbs(args[0])
	st, err := os.Stat(path)
	ts.Check(err)
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(path, st.Size()-n))
}

// cmdExtract puts the built-in model into a folder.
func cmdExtract(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: extract dir")
	}
	ts.Check(demo.Extract(ts.MkAbs(args[0])))
}

// cmdSynth writes a small model of random weights: "synth dir seed [key=number…]"
// with changes to its config.json.
func cmdSynth(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: synth dir seed [key=number...]")
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	config := synthConfig
	for _, edit := range args[2:] {
		key, value, _ := strings.Cut(edit, "=")
		at := strings.Index(config, `"`+key+`": `)
		if at < 0 {
			ts.Fatalf("no %s in the config", key)
		}
		at += len(key) + 4
		config = config[:at] + value + config[at+strings.IndexAny(config[at:], ",\n}"):]
	}
	plan, err := synth.NewPlan(synth.Options{Config: []byte(config), Seed: seed})
	ts.Check(err)
	ts.Check(plan.Write(context.Background(), ts.MkAbs(args[0])))
}

const synthConfig = `{
"model_type": "glm4_moe", "architectures": ["Glm4MoeForCausalLM"], "hidden_act": "silu",
"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64,
"partial_rotary_factor": 0.5, "rope_theta": 10000, "rms_norm_eps": 1e-5, "attention_bias": true,
"intermediate_size": 128, "moe_intermediate_size": 128, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.5,
"num_nextn_predict_layers": 1, "vocab_size": 512, "max_position_embeddings": 512, "eos_token_id": [1], "tie_word_embeddings": false
}`

// cmdSwap exchanges two entries of a tokenizer's vocabulary: "swap file a b".
func cmdSwap(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: swap file a b")
	}
	path := ts.MkAbs(args[0])
	raw, err := os.ReadFile(path)
	ts.Check(err)
	var doc map[string]any
	ts.Check(json.Unmarshal(raw, &doc))
	vocab := doc["model"].(map[string]any)["vocab"].(map[string]any)
	vocab[args[1]], vocab[args[2]] = vocab[args[2]], vocab[args[1]]
	raw, err = json.Marshal(doc)
	ts.Check(err)
	ts.Check(os.WriteFile(path, raw, 0o644))
}
