package safetensors_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/glmconv/glmconv/safetensors"
)

// Errors have a kind for errors.Is and their parts for errors.As.
func ExampleOpenFile() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const header = `{"w":{"dtype":"F16","shape":[4,2],"data_offsets":[0,16]}}`
	short := append([]byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0}, header+"\x00\x3c"...)
	path := filepath.Join(dir, "short.safetensors")
	if err := os.WriteFile(path, short, 0o600); err != nil {
		log.Fatal(err)
	}

	_, err = safetensors.OpenFile(path)
	var e *safetensors.Error
	fmt.Println(errors.Is(err, safetensors.ErrTruncated), errors.As(err, &e))
	fmt.Println(filepath.Base(e.File), e.Tensor)
	fmt.Println(e.Hint())
	// Output:
	// true true
	// short.safetensors w
	// the download is incomplete; fetch this file again (expected size 81)
}

// A plan gives every tensor its place before there is a byte of data.
func ExamplePlanFile() {
	plan, err := safetensors.PlanFile("model.safetensors", []safetensors.Spec{
		{Name: "scales", DType: safetensors.F32, Shape: []int64{4, 1}},
		{Name: "codes", DType: safetensors.I8, Shape: []int64{4, 16}},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range plan.Tensors() {
		fmt.Println(t.Name, t.DType, t.Shape, t.Offset-plan.HeaderSize(), t.Size)
	}
	fmt.Println(plan.Size-plan.HeaderSize(), "bytes of data")
	// Output:
	// scales F32 [4 1] 0 16
	// codes I8 [4 16] 16 64
	// 80 bytes of data
}
