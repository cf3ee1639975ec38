package convert_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
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

// A conversion writes a finished directory, or one that can be resumed.
func ExampleRun() {
	src, folder, remove := exampleModel()
	defer remove()
	plan, err := quant.NewPlan(src, quant.FP8, "", quant.Options{})
	if err != nil {
		log.Fatal(err)
	}

	dst := filepath.Join(folder, "fp8")
	ctx, cancel := context.WithCancel(context.Background())
	stop := func(done, total int64, _ string) { cancel() }
	_, err = convert.Run(ctx, plan, src, dst, convert.Options{Progress: stop})
	fmt.Println("stopped:", errors.Is(err, context.Canceled))
	_, err = convert.Run(context.Background(), plan, src, dst, convert.Options{})
	fmt.Println("unfinished:", errors.Is(err, convert.ErrUnfinished))
	result, err := convert.Run(context.Background(), plan, src, dst, convert.Options{Resume: true})
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
