// Command build assembles the pages of the documentation site.
//
//	go run ./cmd/glmconv __describe | go run ./internal/site/build -out out/site
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/site"
)

func main() {
	out := flag.String("out", "out/site", "`folder` for pages and mkdocs.yml")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	raw, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if err := site.Build(site.Options{Root: ".", Out: out, Describe: raw, Presets: glm.Presets()}); err != nil {
		return err
	}
	dead, err := site.Links(out + "/docs")
	if err == nil && len(dead) > 0 {
		for _, d := range dead {
			fmt.Fprintln(os.Stderr, d)
		}
		err = fmt.Errorf("%d dead links", len(dead))
	}
	return err
}
