package spec_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// Drafts of the MTP layer change how fast a text comes, not the text.
func ExampleGenerate() {
	tmp, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, demo.Name)
	if err := demo.Extract(dir); err != nil {
		log.Fatal(err)
	}
	m, err := runtime.Load(dir, runtime.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	tok, err := tokenizer.Load(dir)
	if err != nil {
		log.Fatal(err)
	}

	o := spec.Options{MaxTokens: 24, Stop: m.Config().EOS}
	plain, err := spec.Generate(context.Background(), m, tok.Encode("The "), o)
	if err != nil {
		log.Fatal(err)
	}
	o.Drafts = 3
	drafted, err := spec.Generate(context.Background(), m, tok.Encode("The "), o)
	if err != nil {
		log.Fatal(err)
	}
	n := drafted.Counters
	fmt.Println("same text:", slices.Equal(plain.Tokens, drafted.Tokens))
	fmt.Println("fewer passes than tokens:", n.Passes < len(drafted.Tokens), n.AcceptanceLength() > 1)
	// Output:
	// same text: true
	// fewer passes than tokens: true true
}
