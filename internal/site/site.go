package site

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Options say what a site is made of.
type Options struct {
	Root     string   // folder of the repository
	Out      string   // folder to write; what is in it is removed
	Describe []byte   // output of glmconv __describe
	Presets  []string // published models whose engine rows are listed
}

// home is where links that leave the pages lead to.
const home = "https://github.com/glmconv/glmconv/blob/main/"

// beside are pages of the repository's top that the site has as well.
var beside = map[string]string{"CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md", "CONTRIBUTING.md": "contributing.md"}

// description is what the command says of itself.
type description struct {
	Version, Usage, Description string
	Commands                    []command
	Codes                       []code
	Results                     map[string]json.RawMessage
}

type command struct {
	Name, Usage, Args, Description string
	Flags, Common                  []flag
}

type flag struct {
	Names          []string
	Value          string
	Usage, Default string
	Values         []string
	Repeatable     bool
}

type code struct{ Code, Of, Severity, Means, Cause, Remedy string }

// Build writes Out/docs and Out/mkdocs.yml.
func Build(o Options) error {
	var d description
	if err := json.Unmarshal(o.Describe, &d); err != nil {
		return fmt.Errorf("description of the command: %w", err)
	}
	if err := os.RemoveAll(o.Out); err != nil {
		return err
	}
	pages := map[string]string{}
	if err := copyPages(o.Root, pages); err != nil {
		return err
	}
	commandPages(&d, pages)
	codePages(&d, pages)
	if err := schemaPages(&d, pages); err != nil {
		return err
	}
	if err := schemePage(pages); err != nil {
		return err
	}
	if err := enginePages(o.Presets, pages); err != nil {
		return err
	}
	for name, text := range pages {
		to := filepath.Join(o.Out, "docs", filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			return err
		}
	}
	config, err := os.ReadFile(filepath.Join(o.Root, "mkdocs.yml"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Out, "mkdocs.yml"), config, 0o644)
}

// copyPages takes over what is written by hand.
func copyPages(root string, pages map[string]string) error {
	take := func(from, to string) error {
		raw, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(from)))
		if err != nil {
			return err
		}
		pages[to] = relink(string(raw), from, to)
		return nil
	}
	for from, to := range beside {
		if err := take(from, to); err != nil {
			return err
		}
	}
	docs := filepath.Join(root, "docs")
	return filepath.WalkDir(docs, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".md") {
			return err
		}
		rel, err := filepath.Rel(docs, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		return take("docs/"+rel, rel)
	})
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// relink turns links of a page of the repository into those of the site: pages
// stay pages, anything else is in the repository.
func relink(text, from, to string) string {
	return link.ReplaceAllStringFunc(text, func(m string) string {
		target := m[2 : len(m)-1]
		if strings.Contains(target, "://") || strings.HasPrefix(target, "#") || strings.HasPrefix(target, "mailto:") {
			return m
		}
		file, anchor, _ := strings.Cut(target, "#")
		if anchor != "" {
			anchor = "#" + anchor
		}
		at := path.Join(path.Dir(from), file)
		page, inside := strings.CutPrefix(at, "docs/")
		if other, ok := beside[at]; ok {
			page, inside = other, true
		}
		if !inside || !strings.HasSuffix(page, ".md") {
			return "](" + home + at + anchor + ")"
		}
		return "](" + relative(path.Dir(to), page) + anchor + ")"
	})
}

// relative is the way from a folder to a page, both from the site's top.
func relative(folder, page string) string {
	rel, err := filepath.Rel(filepath.FromSlash(folder), filepath.FromSlash(page))
	if err != nil {
		return page
	}
	return filepath.ToSlash(rel)
}
