package verify_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/check"
	"github.com/glmconv/glmconv/verify/diff"
)

// examplePair writes a small GLM-5-like checkpoint into a new folder and converts
// it to W8A8.
func examplePair() (src, dst string, remove func()) {
	tmp, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	src, dst = filepath.Join(tmp, demo.Name), filepath.Join(tmp, "w8a8")
	if err := demo.Extract(src); err != nil {
		log.Fatal(err)
	}
	ckpt, err := safetensors.OpenDir(src)
	if err != nil {
		log.Fatal(err)
	}
	defer ckpt.Close()
	plan, err := quant.NewPlan(ckpt, quant.W8A8, "", quant.Options{})
	if err == nil {
		_, err = convert.Run(context.Background(), plan, ckpt, dst, convert.Options{})
	}
	if err != nil {
		log.Fatal(err)
	}
	return src, dst, func() { os.RemoveAll(tmp) }
}

// Compare runs source and result over the same tokens and judges the result.
func ExampleCompare() {
	src, dst, remove := examplePair()
	defer remove()

	r, err := verify.Compare(context.Background(), src, dst, verify.Options{Tokens: 512, SeqLen: 32})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Verdict, "as", r.Profile.Name, "with", r.Tol, "nats at most")
	fmt.Println("mean KL below it:", r.KL.Mean < r.Tol, "own rounding found again:", r.Oracle.Computed && r.Oracle.MaxDiff == 0)
	// Output:
	// pass as 8-bit with 0.01 nats at most
	// mean KL below it: true own rounding found again: true
}

// Static needs no forward pass; a tensor that was changed is named.
func ExampleStatic() {
	src, dst, remove := examplePair()
	defer remove()
	ckpt, err := safetensors.OpenDir(dst)
	if err != nil {
		log.Fatal(err)
	}
	norm, _ := ckpt.Info("model.norm.weight")
	ckpt.Close()
	f, err := os.OpenFile(filepath.Join(dst, norm.File), os.O_WRONLY, 0)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0, 0}, norm.Offset); err != nil {
		log.Fatal(err)
	}
	f.Close()

	r, err := verify.Static(context.Background(), src, dst, verify.StaticOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Verdict)
	for _, f := range r.Failed {
		if f.Where == norm.Name {
			fmt.Println(f.Check, f.Where)
		}
	}
	// Output:
	// fail
	// exact model.norm.weight
}

// Package check judges a directory by itself, package diff compares two.
func Example_oneAndTwo() {
	src, dst, remove := examplePair()
	defer remove()

	c, err := check.Run(context.Background(), dst, check.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("good:", c.OK, "compared with a manifest:", c.Manifest)
	d, err := diff.Run(context.Background(), src, dst, diff.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("different:", d.Different, "weights stored otherwise:", len(d.Modules))
	// Output:
	// good: true compared with a manifest: true
	// different: true weights stored otherwise: 72
}
