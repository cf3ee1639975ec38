package mtp_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/safetensors"
)

// exampleModel writes a small GLM-5-like checkpoint into a new folder. Like the
// published one its MTP layer has no embedding and no head of its own.
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

// The copies are decided from headers, written in place, and taken back.
func ExampleNewRemap() {
	dir, remove := exampleModel()
	defer remove()

	r, err := mtp.NewRemap(dir, mtp.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range r.Copies {
		fmt.Println(c.Name, c.From.DType, c.From.Shape, "from", c.From.Name)
	}
	if err := r.Apply(context.Background()); err != nil {
		log.Fatal(err)
	}
	r, err = mtp.NewRemap(dir, mtp.Options{})
	fmt.Println("done:", r.Done, err)

	fmt.Println(mtp.Undo(dir, nil))
	fmt.Println(errors.Is(mtp.Undo(dir, nil), mtp.ErrNoUndo))
	// Output:
	// model.layers.3.embed_tokens.weight BF16 [1088 128] from model.embed_tokens.weight
	// model.layers.3.shared_head.head.weight BF16 [1088 128] from lm_head.weight
	// done: true <nil>
	// <nil>
	// true
}

// StateOf says what the MTP layer of a described checkpoint lacks.
func ExampleStateOf() {
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
	s := mtp.StateOf(m)
	fmt.Println("layer", s.Layer, "complete:", s.Complete, "ready for every engine:", s.Ready())
	fmt.Println(s.Lacks)
	// Output:
	// layer 3 complete: true ready for every engine: false
	// [model.layers.3.embed_tokens.weight model.layers.3.shared_head.head.weight]
}
