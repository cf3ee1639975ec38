package main

import (
	"embed"
	"strings"

	"github.com/urfave/cli/v2"
)

//go:embed completions
var completionScripts embed.FS

// shells are those that there is a script for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

func cmdCompletion() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the script by which a shell completes commands, flags, values and codes",
		ArgsUsage: "SHELL",
		Description: "SHELL is " + strings.Join(shells, ", ") + ".\n\n" +
			"  bash        source <(glmconv completion bash)\n" +
			"  zsh         source <(glmconv completion zsh), after compinit\n" +
			"  fish        glmconv completion fish > ~/.config/fish/completions/glmconv.fish\n" +
			"  powershell  glmconv completion powershell | Out-String | Invoke-Expression",
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			if len(args) != 1 {
				return usagef("completion needs the name of one shell: %s", strings.Join(shells, ", "))
			}
			script, err := completionScripts.ReadFile("completions/" + strings.ToLower(args[0]))
			if err != nil {
				return usagef("no completion for %q: there is %s", args[0], strings.Join(shells, ", "))
			}
			_, err = c.App.Writer.Write(script)
			return err
		},
	}
}
