package quant_test

import (
	"context"
	"errors"
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

// A conversion writes a finished directory, or one that can be resumed.
func ExampleConvert() {
	src, folder, remove := exampleModel()
	defer remove()
	plan, err := quant.NewPlan(src, quant.FP8, "", quant.Options{})
	if err != nil {
		log.Fatal(err)
	}

	dst := filepath.Join(folder, "fp8")
	ctx, cancel := context.WithCancel(context.Background())
	stop := func(done, total int64, _ string) { cancel() }
	_, err = quant.Convert(ctx, plan, src, dst, quant.ConvertOptions{Progress: stop})
	fmt.Println("stopped:", errors.Is(err, context.Canceled))
	_, err = quant.Convert(context.Background(), plan, src, dst, quant.ConvertOptions{})
	fmt.Println("unfinished:", errors.Is(err, quant.ErrUnfinished))
	result, err := quant.Convert(context.Background(), plan, src, dst, quant.ConvertOptions{Resume: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range result.Stats.Schemes {
		fmt.Printf("%s: %d weights, relative error %.1f %%\n", s.Scheme, s.Weights, 100*s.Relative)
	}
	m, err := quant.ReadManifest(dst)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Scheme, m.Format, m.Fingerprint == plan.Fingerprint)
	// Output:
	// stopped: true
	// unfinished: true
	// FP8: 104 weights, relative error 2.6 %
	// fp8 compressed-tensors true
}
