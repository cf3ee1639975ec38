package quant_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// exampleModel opens a small GLM-5-like checkpoint in a new folder.
func exampleModel() (src *safetensors.Checkpoint, folder string, remove func()) {
	folder, err := os.MkdirTemp("", "example")
	if err == nil {
		err = demo.Extract(filepath.Join(folder, demo.Name))
	}
	if err == nil {
		src, err = safetensors.OpenDir(filepath.Join(folder, demo.Name))
	}
	if err != nil {
		log.Fatal(err)
	}
	return src, folder, func() { src.Close(); os.RemoveAll(folder) }
}

// A plan says what becomes of every tensor before one weight is read.
func ExampleNewPlan() {
	src, _, remove := exampleModel()
	defer remove()

	plan, err := quant.NewPlan(src, quant.W8A8, layout.Ascend, quant.Options{Ignore: []string{"re:model.layers.0.*"}})
	if err != nil {
		log.Fatal(err)
	}
	count := map[quant.Action]int{}
	for _, item := range plan.Items {
		count[item.Action]++
	}
	fmt.Println(count[quant.Quantize], "quantized,", count[quant.Copy]+count[quant.Widen], "kept,", count[quant.Alias], "copied for the MTP layer")
	fmt.Println(len(plan.Files), "shard,", plan.IndexName)
	// Output:
	// 64 quantized, 89 kept, 2 copied for the MTP layer
	// 1 shard, quant_model_weights.safetensors.index.json
}
