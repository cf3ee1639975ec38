// Command dump says what glmconv's own reader sees in a checkpoint, for the
// interop suite (interop/), which compares it with what other readers see.
//
//	dump DIR                 one JSON object a line: name, dtype, shape, sha256 of every tensor
//	dump -dequant OUT DIR    writes OUT (safetensors) with F32 <module>.weight [N,K] of every quantised module
//	dump -logits OUT -ids FILE DIR   writes OUT with F32 logits.<i> [T,V] of every sequence of FILE
//	dump -hollow SCHEME[/FORMAT[/MTP[/static,c8 or rest-int8,channel]]] -out OUT DIR   writes what quantize would, with holes for data; recipe/NAME too
//	                         -mix ENGINE: units in other formats, as within a budget
//	dump -tokenize DIR       reads JSON strings, one a line, and writes for each
//	                         {"ids": Encode, "ordinary": EncodeOrdinary, "text": Decode of ids}
//	dump -chat FILE          reads conversations, one JSON object a line, and writes for each
//	                         {"text": the prompt that the template FILE makes} or {"error": …};
//	                         -tokenizer DIR adds "ids"; for FILE "-" lines hold template and variables
//	dump -recipes ENGINE     argument lists of the recipes for the engine (vllm, sglang@0.5 …), a JSON array a line;
//	                         -every N: of every N-th question, with one scheme a preset
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

func main() {
	out := flag.String("dequant", "", "write the dequantised weights to this file")
	tokens := flag.Bool("tokenize", false, "encode the JSON strings of standard input")
	conversations := flag.Bool("chat", false, "render the conversations of standard input")
	tok := flag.String("tokenizer", "", "checkpoint whose tokenizer encodes the prompts of -chat")
	lg := flag.String("logits", "", "write the logits of the sequences of -ids to this file")
	ids := flag.String("ids", "", "JSON array of arrays of token ids")
	what := flag.String("hollow", "", "write the result of this scheme/format/mtp to -out, without data")
	dst := flag.String("out", "", "directory for -hollow")
	hardware := flag.String("hardware", "", "devices that -hollow asks the engines' tables about, with commas; all together without")
	mix := flag.String("mix", "", "-hollow gives units other formats, as a budget does, of those that this engine loads")
	servers := flag.Bool("recipes", false, "write the argument lists of the recipes for an engine")
	step := flag.Int("every", 1, "answer every n-th question of -recipes")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	do := func() error { return run(flag.Arg(0), *out) }
	if *lg != "" {
		do = func() error { return logits(flag.Arg(0), *ids, *lg) }
	}
	if *conversations {
		do = func() error { return render(flag.Arg(0), *tok, os.Stdin, os.Stdout) }
	}
	if *what != "" {
		do = func() error { return hollow(flag.Arg(0), *what, *dst, *hardware, *mix) }
	}
	if *servers {
		do = func() error { return recipes(flag.Arg(0), *step, os.Stdout) }
	}
	if *tokens {
		do = func() error { return tokenize(flag.Arg(0), os.Stdin, os.Stdout) }
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "dump:", err)
		os.Exit(1)
	}
}

func run(dir, out string) (err error) {
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
		return tensors(c, os.Stdout)
	}
	return dequant(c, dir, out)
}

func tensors(c *safetensors.Checkpoint, w io.Writer) error {
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

func dequant(c *safetensors.Checkpoint, dir, out string) error {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return err
	}
	var hints layout.Hints // without a declaration: as the tensors show
	if raw := cfg.QuantizationConfig; raw != nil {
		d, err := declaration.Config(raw)
		if err != nil {
			return err
		}
		hints.Declared = func(module string) format.Weight { return d.Of(module).Weights() }
	}
	var specs []safetensors.Spec
	var stored []layout.Stored
	for _, t := range c.Tensors() {
		module, param := glm.ModuleOf(t.Name)
		if !layout.HoldsWeight(param) || strings.Contains(t.Name, "norm") {
			continue
		}
		s, err := layout.Lookup(c, module, hints)
		if err != nil {
			return err
		}
		if !s.Quantized() {
			continue
		}
		specs = append(specs, safetensors.Spec{Name: module + ".weight", DType: safetensors.F32, Shape: []int64{int64(s.Rows), int64(s.Cols)}})
		stored = append(stored, s)
	}
	return writeFloats(out, specs, func(i int) ([]float32, error) {
		m, err := layout.ReadRows(c, stored[i], 0, stored[i].Rows)
		if err != nil {
			return nil, err
		}
		values := make([]float32, stored[i].Rows*stored[i].Cols)
		m.Dequant(values, 0, stored[i].Rows)
		return values, nil
	})
}
