package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/safetensors"
)

// exampleModel writes a small GLM-5-like checkpoint into a new folder.
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

// A session takes the tokens of a prompt and then one token after the other.
func ExampleLoad() {
	dir, remove := exampleModel()
	defer remove()
	m, err := runtime.Load(dir, runtime.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	tok, err := tokenizer.Load(dir)
	if err != nil {
		log.Fatal(err)
	}

	ctx, s := context.Background(), m.NewSession()
	next := tok.Encode("func main() {")
	var text []int
	for range 8 {
		h, err := s.Forward(ctx, next) // [len(next), H]
		if err != nil {
			log.Fatal(err)
		}
		z, err := m.Logits(ctx, h[len(h)-m.Config().HiddenSize:]) // [1, V]
		if err != nil {
			log.Fatal(err)
		}
		next = runtime.Top(z, m.Config().VocabSize)
		text = append(text, next...)
	}
	fmt.Println(len(text), "tokens, as text:", tok.Decode(text) != "")
	_, err = s.Forward(ctx, []int{m.Config().VocabSize})
	fmt.Println(errors.Is(err, runtime.ErrToken))
	// Output:
	// 8 tokens, as text: true
	// true
}

// Evaluate reads whole sequences in one pass and keeps what is asked for.
func ExampleModel_Evaluate() {
	dir, remove := exampleModel()
	defer remove()
	m, err := runtime.Load(dir, runtime.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	out, err := m.Evaluate(context.Background(), [][]int{{990, 992, 17, 4, 300}, {990, 5}}, runtime.EvalOptions{Logits: true, Router: true, MTP: 1})
	if err != nil {
		log.Fatal(err)
	}
	v := m.Config().VocabSize
	for _, e := range out {
		fmt.Println(len(e.Logits)/v, "rows of logits,", len(e.MTP[0])/v, "of the draft,", len(e.Router), "layers with experts,", len(e.Router[2][0].Experts), "experts a token")
	}
	// Output:
	// 5 rows of logits, 4 of the draft, 2 layers with experts, 2 experts a token
	// 2 rows of logits, 1 of the draft, 2 layers with experts, 2 experts a token
}

// A model larger than memory goes through layer by layer: weights are read in
// tiles and forgotten.
func ExampleNewStreaming() {
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
	p, err := runtime.NewStreaming(cfg, ckpt, 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Stop()
	m, err := runtime.New(cfg, p, runtime.Options{})
	if err != nil {
		log.Fatal(err)
	}

	ctx, ids := context.Background(), []int{990, 992, 17, 4, 300}
	x, err := m.Embed(ids) // [T, H], the residual stream
	if err != nil {
		log.Fatal(err)
	}
	spans := []runtime.Span{{N: len(ids)}}
	for l := range m.Layers() {
		spans[0].Cache = new(runtime.LayerCache)
		if err := m.Layer(ctx, l, x, spans, nil); err != nil {
			log.Fatal(err)
		}
	}
	h, err := m.FinalNorm(x)
	if err != nil {
		log.Fatal(err)
	}
	r, z, entries := m.LogitReader(h), make([]float32, len(ids)*runtime.LogitRun), 0
	for {
		n, err := r.Next(ctx, runtime.LogitRun, z) // z is [T, n]
		if err != nil {
			log.Fatal(err)
		}
		if n == 0 {
			break
		}
		entries += n
	}
	fmt.Println(entries == cfg.VocabSize)
	// Output:
	// true
}
