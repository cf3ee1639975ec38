package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// logits writes logits.<i> F32 [T, V] for the i-th sequence of a JSON array of
// arrays of token ids, with the latent norms' eps of transformers.
func logits(dir, ids, out string) error {
	raw, err := os.ReadFile(ids)
	if err != nil {
		return err
	}
	var seqs [][]int
	if err := json.Unmarshal(raw, &seqs); err != nil {
		return err
	}
	m, err := runtime.Load(dir, runtime.Options{LatentEps: 1e-6})
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	got, err := m.Evaluate(context.Background(), seqs, runtime.EvalOptions{Logits: true})
	if err != nil {
		return err
	}
	specs := make([]safetensors.Spec, len(seqs))
	for i, s := range seqs {
		specs[i] = safetensors.Spec{Name: fmt.Sprintf("logits.%d", i), DType: safetensors.F32,
			Shape: []int64{int64(len(s)), int64(len(got[i].Logits) / len(s))}}
	}
	return writeFloats(out, specs, func(i int) ([]float32, error) { return got[i].Logits, nil })
}

// writeFloats writes a safetensors file of F32 tensors.
func writeFloats(out string, specs []safetensors.Spec, values func(i int) ([]float32, error)) error {
	plan, err := safetensors.PlanFile(filepath.Base(out), specs, nil)
	if err != nil {
		return err
	}
	w, err := safetensors.Create(fsx.OS, filepath.Dir(out), plan)
	if err != nil {
		return err
	}
	for i := range specs {
		v, err := values(i)
		if err != nil {
			return err
		}
		raw := make([]byte, 0, 4*len(v))
		for _, x := range v {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
		}
		if _, err := w.Write(raw); err != nil {
			return err
		}
	}
	_, err = w.Commit()
	return err
}
