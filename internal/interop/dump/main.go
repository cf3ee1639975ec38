// Command dump says what glmconv's own reader sees in a checkpoint, for the
// interop suite (interop/), which compares it with what other readers see.
//
//	dump DIR                 one JSON object a line: name, dtype, shape, sha256 of every tensor
//	dump -dequant OUT DIR    writes OUT (safetensors) with F32 <module>.weight [N,K] of every quantised module
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

func main() {
	out := flag.String("dequant", "", "write the dequantised weights to this file")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(context.Background(), flag.Arg(0), *out); err != nil {
		fmt.Fprintln(os.Stderr, "dump:", err)
		os.Exit(1)
	}
}

func run(_ context.Context, dir, out string) (err error) {
	c, err := safetensors.OpenDir(dir)
	if err != nil {
		return err
	}
	defer func() {
		if e := c.Close(); err == nil {
			err = e
		}
	}()
	if out == "" {
		return list(c, os.Stdout)
	}
	return dequant(c, dir, out)
}

func list(c *safetensors.Checkpoint, w io.Writer) error {
	enc := json.NewEncoder(w)
	for _, t := range c.Tensors() {
		h := sha256.New()
		if _, err := io.Copy(h, c.Reader(t)); err != nil {
			return err
		}
		row := map[string]any{"name": t.Name, "dtype": t.DType.String(), "shape": t.Shape, "sha256": hex.EncodeToString(h.Sum(nil))}
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
	return nil
}

// four tells whether config.json declares only 4-bit groups: what I8 codes of
// compressed-tensors mean is not in the tensors.
func four(cfg *glm.Config) bool {
	var q struct {
		Groups map[string]struct {
			Weights struct {
				Bits int `json:"num_bits"`
			} `json:"weights"`
		} `json:"config_groups"`
	}
	if json.Unmarshal(cfg.QuantizationConfig, &q) != nil || len(q.Groups) == 0 {
		return false
	}
	for _, g := range q.Groups {
		if g.Weights.Bits != 4 {
			return false
		}
	}
	return true
}

func dequant(c *safetensors.Checkpoint, dir, out string) error {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return err
	}
	int4 := four(cfg)
	hints := layout.Hints{Bits: func(string) int {
		if int4 {
			return 4
		}
		return 0 // as the tensors show
	}}
	var specs []safetensors.Spec
	var stored []layout.Stored
	for _, t := range c.Tensors() {
		module, param := glm.ModuleOf(t.Name)
		if (param != "weight" && param != "weight_packed") || strings.Contains(t.Name, "norm") {
			continue
		}
		s, err := layout.Lookup(c, module, hints)
		if err != nil {
			return err
		}
		if s.Encoding == layout.Float || s.Encoding == layout.Widen {
			continue
		}
		specs = append(specs, safetensors.Spec{Name: module + ".weight", DType: safetensors.F32, Shape: []int64{int64(s.Rows), int64(s.Cols)}})
		stored = append(stored, s)
	}
	plan, err := safetensors.PlanFile(filepath.Base(out), specs, nil)
	if err != nil {
		return err
	}
	w, err := safetensors.Create(fsx.OS, filepath.Dir(out), plan)
	if err != nil {
		return err
	}
	for _, s := range stored {
		m, err := layout.ReadRows(c, s, 0, s.Rows)
		if err != nil {
			return err
		}
		values := make([]float32, s.Rows*s.Cols)
		m.Dequant(values, 0, s.Rows)
		raw := make([]byte, 0, 4*len(values))
		for _, v := range values {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		if _, err := w.Write(raw); err != nil {
			return err
		}
	}
	_, err = w.Commit()
	return err
}
