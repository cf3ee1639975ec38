package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/reach"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/source"
)

// sameCommit returns the address of a source at the commit that its result, the
// second argument, was begun or made from, where the address leaves that open: a
// branch that moved since changes neither --resume nor verify.
func sameCommit(c *cli.Context, i int, arg string, o reach.Options) string {
	if i != 0 || c.Command.Name != "quantize" && c.Command.Name != "verify" || c.NArg() < 2 {
		return arg
	}
	name := madeFrom(c, c.Args().Get(1), o)
	at := reach.AtCommitOf(arg, name, c.Command.Name == "quantize", o)
	if at != arg {
		fmt.Fprintf(c.App.ErrWriter, "note: %s was made from %s: that commit is read\n", c.Args().Get(1), at)
	}
	return at
}

// madeFrom returns the address that a result was begun from, for quantize, or made
// from, for verify; "" if it does not say.
func madeFrom(c *cli.Context, dst string, o reach.Options) string {
	read := func(name string) ([]byte, error) { return fsx.ReadRegular(filepath.Join(dst, name), fsx.MaxText) }
	switch source.Scheme(dst) {
	case "":
	case "s3":
		b, err := reach.OpenBucket(c.Context, dst, o, reach.BucketOptions{})
		if err != nil {
			return ""
		}
		defer func() { _ = b.Close() }()
		read = func(name string) ([]byte, error) { return b.ReadFile(b.Name() + "/" + name) }
	default:
		return ""
	}
	if c.Command.Name == "quantize" {
		var begun convert.Origin
		if text, err := read(fsx.StateDir + "/" + convert.OriginFile); err == nil && json.Unmarshal(text, &begun) == nil {
			return begun.URI
		}
		return ""
	}
	if text, err := read(quant.ManifestName); err == nil {
		if m, err := quant.ParseManifest(text); err == nil && m.Source != nil {
			return m.Source.URI
		}
	}
	return ""
}
