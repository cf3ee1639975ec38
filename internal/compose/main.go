// Command compose holds compose files against the code that `docker compose config`
// runs, compose-go: strict YAML, the schema of the Compose Specification, variables,
// consistency. It is a module of its own, since nothing else needs it.
//
//	compose FILE...
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: compose FILE...")
		os.Exit(2)
	}
	failed := false
	for _, name := range os.Args[1:] {
		text, err := os.ReadFile(name)
		if err == nil {
			_, err = Load(text, nil)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// Load is the project that a compose file describes where the environment is env.
func Load(text []byte, env map[string]string) (*types.Project, error) {
	return loader.LoadWithContext(context.Background(),
		types.ConfigDetails{WorkingDir: "/", Environment: env, ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: text}}},
		func(o *loader.Options) { o.SetProjectName("glm", true) })
}
