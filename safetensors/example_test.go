package safetensors_test

import (
	"fmt"
	"log"
	"os"

	"github.com/glmconv/glmconv/safetensors"
)

// A checkpoint of one shard is planned, written, indexed, and read by rows.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	const shard = "model-00001-of-00001.safetensors"
	plan, err := safetensors.PlanFile(shard, []safetensors.Spec{
		{Name: "w", DType: safetensors.I8, Shape: []int64{3, 2}},
		{Name: "b", DType: safetensors.U8, Shape: []int64{2}},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	w, err := safetensors.Create(nil, dir, plan)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write([]byte{1, 2, 3, 4, 5, 6, 7, 8}); err != nil {
		log.Fatal(err)
	}
	if _, err := w.Commit(); err != nil {
		log.Fatal(err)
	}
	err = safetensors.WriteIndex(nil, dir, safetensors.IndexName, map[string]string{"w": shard, "b": shard}, 8)
	if err != nil {
		log.Fatal(err)
	}

	c, err := safetensors.OpenDir(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	row := make([]byte, 2)
	for _, t := range c.Tensors() {
		fmt.Println(t.Name, t.DType, t.Shape, t.Size)
	}
	if err := c.ReadRows("w", 1, 2, row); err != nil {
		log.Fatal(err)
	}
	fmt.Println(row)
	fmt.Println(c.ReadRows("w", 3, 4, row) != nil)
	// Output:
	// w I8 [3 2] 6
	// b U8 [2] 2
	// [3 4]
	// true
}
