package glm_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/safetensors"
)

// exampleModel writes a small GLM-5-like checkpoint into a new folder.
func exampleModel() (dir string, remove func()) {
	tmp, err := os.MkdirTemp("", "example")
	if err == nil {
		dir = filepath.Join(tmp, demo.Name)
		err = demo.Extract(dir)
	}
	if err != nil {
		log.Fatal(err)
	}
	return dir, func() { os.RemoveAll(tmp) }
}

// A checkpoint is described from its config and the headers of its shards.
func ExampleDescribe() {
	dir, remove := exampleModel()
	defer remove()

	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		log.Fatal(err)
	}
	ckpt, err := safetensors.OpenDir(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer ckpt.Close()
	m, err := glm.Describe(cfg, ckpt.Tensors())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cfg.Family, cfg.Layers, "layers,", cfg.Experts, "experts")
	fmt.Println(len(m.Entries), "tensors,", len(m.Missing), "missing,", len(m.Unexpected), "unexpected")
	fmt.Println("MTP layer", m.MTP.Layer, "complete:", m.MTP.Complete, "with its own embedding:", m.MTP.EmbedTokens)
	for _, e := range m.ByRole(glm.AttnQA) {
		fmt.Println(e.Name, e.Shape, e.Group)
	}
	// Output:
	// glm_moe_dsa 3 layers, 8 experts
	// 153 tensors, 0 missing, 0 unexpected
	// MTP layer 3 complete: true with its own embedding: false
	// model.layers.0.self_attn.q_a_proj.weight [64 128] model.layers.0.self_attn.fused_qkv_a_proj
	// model.layers.1.self_attn.q_a_proj.weight [64 128] model.layers.1.self_attn.fused_qkv_a_proj
	// model.layers.2.self_attn.q_a_proj.weight [64 128] model.layers.2.self_attn.fused_qkv_a_proj
	// model.layers.3.self_attn.q_a_proj.weight [64 128] model.layers.3.self_attn.fused_qkv_a_proj
}

// Published configurations come with the package: the table of GLM-4.5-Air lists
// every tensor that it holds.
func ExampleConfig_Table() {
	cfg, err := glm.Preset("glm-4.5-air")
	if err != nil {
		log.Fatal(err)
	}
	experts, elements := 0, int64(0)
	for _, t := range cfg.Table() {
		if t.Role == glm.ExpertDown && !t.MTP {
			experts++
		}
		if !t.Optional && !t.MTP {
			elements += t.Elements()
		}
	}
	t := cfg.Lookup("model.layers.1.mlp.gate.weight")
	fmt.Println(experts, "routed experts,", elements/1e9, "billion parameters")
	fmt.Println(t.Name, t.Role, t.Shape)
	// Output:
	// 5760 routed experts, 106 billion parameters
	// model.layers.1.mlp.gate.weight router [128 4096]
}

// A model that the package does not know is refused with a reason, never guessed.
func ExampleParseConfig() {
	_, err := glm.ParseConfig([]byte(`{"model_type": "llama", "hidden_size": 4096}`))
	var e *glm.ConfigError
	fmt.Println(errors.Is(err, glm.ErrUnsupported), errors.As(err, &e))
	fmt.Println(e.Field)
	// Output:
	// true true
	// model_type
}
