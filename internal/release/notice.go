package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

type module struct{ Path, Version, Dir string }

// modules lists those whose code is in the binary of any platform.
func modules(root string) ([]module, error) {
	seen := map[string]module{}
	for _, t := range targets {
		cmd := exec.Command("go", "list", "-deps", "-json=Module", "./cmd/glmconv")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch)
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		dec := json.NewDecoder(strings.NewReader(string(out)))
		for {
			var p struct {
				Module *struct {
					module
					Main bool
				}
			}
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err
			}
			if p.Module != nil && !p.Module.Main {
				seen[p.Module.Path] = p.Module.module
			}
		}
	}
	list := make([]module, 0, len(seen))
	for _, m := range seen {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)([-.].*)?$`)

// writeNotice writes the licences of all modules; equal texts stand once.
func writeNotice(root, to string) error {
	list, err := modules(root)
	if err != nil {
		return err
	}
	type group struct {
		of   []string
		text string
	}
	var groups []*group
	add := func(of, text string) {
		text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
		for _, g := range groups {
			if g.text == text {
				g.of = append(g.of, of)
				return
			}
		}
		groups = append(groups, &group{[]string{of}, text})
	}
	var b strings.Builder
	b.WriteString("glmconv\nCopyright the glmconv authors. Apache License 2.0, see LICENSE.\n\n" +
		"The built-in demo model was trained for this project on permissively licensed text; its\nweights are under the same licence.\n\n" +
		"The binary holds code of the Go standard library and of these modules, whose licences\nfollow. This file is generated (make notice).\n\n")
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	std, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(goroot)), "LICENSE"))
	if err != nil {
		return err
	}
	add("the Go standard library", string(std))
	for _, m := range list {
		fmt.Fprintf(&b, "  %s %s\n", m.Path, m.Version)
		entries, err := os.ReadDir(m.Dir)
		if err != nil {
			return err
		}
		found := false
		for _, e := range entries {
			if !e.IsDir() && licenceFile.MatchString(e.Name()) {
				raw, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
				if err != nil {
					return err
				}
				add(m.Path, string(raw))
				found = true
			}
		}
		if !found {
			return fmt.Errorf("%s %s has no licence file", m.Path, m.Version)
		}
	}
	for _, g := range groups {
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(g.of, "\n"), strings.Repeat("-", 80), g.text)
	}
	return os.WriteFile(to, []byte(b.String()), 0o644)
}
