package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	out := flag.String("out", "", "`folder` for the artefacts; what is in it is removed")
	check := flag.String("check", "", "build twice below this `folder`, compare, install and run")
	fresh := flag.Bool("fresh", false, "with -check: the second build compiles everything anew")
	notice := flag.String("notice", "", "write the licences of all modules to this `file`")
	root := flag.String("root", "../..", "`folder` of the repository")
	version := flag.String("version", "", "version without v (default: from the tag, or the changelog)")
	flag.Parse()
	if err := run(*root, *out, *check, *notice, *version, *fresh); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(root, out, check, notice, version string, fresh bool) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	if notice != "" {
		return writeNotice(root, notice)
	}
	b, err := newBuild(root, version)
	if err != nil {
		return err
	}
	switch {
	case check != "":
		return b.check(check, fresh)
	case out != "":
		return b.all(out)
	}
	return errors.New("one of -out, -check and -notice is needed")
}
