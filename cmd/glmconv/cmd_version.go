package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/cpu"
)

// version, commit and date (of the commit, RFC 3339) are set by the linker for
// releases; otherwise the build's own information is used.
var version, commit, date string

// buildInfo is the result of glmconv version --json.
type buildInfo struct {
	Schema   string   `json:"schema"`
	Version  string   `json:"version"`
	Commit   string   `json:"commit"`
	Date     string   `json:"date"` // of the commit, RFC 3339, or ""
	Modified bool     `json:"modified"`
	Go       string   `json:"go"`
	Platform string   `json:"platform"`
	CPU      []string `json:"cpu"`
}

func cmdVersion() *cli.Command {
	return &cli.Command{
		Name:      "version",
		Usage:     "print version, commit, Go version and the CPU features in use",
		ArgsUsage: " ",
		Flags:     []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action: func(c *cli.Context) error {
			if _, err := paths(c); err != nil {
				return err
			}
			b := currentBuild()
			if c.Bool("json") {
				return writeJSON(c, b)
			}
			of := b.Commit
			if b.Date != "" {
				of += " of " + b.Date
			}
			if b.Modified {
				of += " (modified)"
			}
			_, err := fmt.Fprintf(c.App.Writer, "glmconv %s\ncommit  %s\ngo      %s %s\ncpu     %s\n", b.Version, of, b.Go, b.Platform, b.CPU[0])
			return err
		},
	}
}

func currentBuild() buildInfo {
	b := buildInfo{Schema: "glmconv.version/1", Version: version, Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, CPU: []string{kernels()}, Commit: cmp.Or(commit, "unknown"), Date: date}
	if info, ok := debug.ReadBuildInfo(); ok && commit == "" {
		if b.Version == "" {
			b.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.time":
				b.Date = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	return b
}

// kernels says which kernels this process runs.
func kernels() string {
	l := cpu.Current()
	if l == cpu.PureGo {
		return "plain Go kernels"
	}
	var names []string
	for _, l := range cpu.Levels() {
		names = append(names, l.String())
	}
	return fmt.Sprintf("%s kernels (GLMCONV_CPU chooses: %s)", l, strings.Join(names, ", "))
}
