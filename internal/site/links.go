package site

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

var (
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?)\s*$`)
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```[ \t]*$")
	inline  = regexp.MustCompile("`[^`\n]*`")
)

// Links returns "page: target" for every link between the pages of a folder that
// leads to no page or heading.
func Links(docs string) ([]string, error) {
	anchors := map[string]map[string]bool{}
	texts := map[string]string{}
	err := filepath.WalkDir(docs, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".md") {
			return err
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		text := fenced.ReplaceAllString(string(raw), "")
		texts[name] = text
		anchors[name] = anchorsOf(text)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var dead []string
	for name, text := range texts {
		for _, m := range link.FindAllStringSubmatch(inline.ReplaceAllString(text, ""), -1) {
			target := m[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(target, "#")
			page := name
			if file != "" {
				page = filepath.Join(filepath.Dir(name), filepath.FromSlash(file))
			}
			if list, ok := anchors[page]; !ok || anchor != "" && !list[anchor] {
				rel, err := filepath.Rel(docs, name)
				if err != nil {
					rel = name
				}
				dead = append(dead, fmt.Sprintf("%s: %s", filepath.ToSlash(rel), target))
			}
		}
	}
	slices.Sort(dead)
	return dead, nil
}

// anchorsOf are the anchors of a page's headings, as mkdocs names them.
func anchorsOf(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		slug := slugOf(m[1])
		for n := 1; out[slug]; n++ {
			slug = fmt.Sprintf("%s_%d", slugOf(m[1]), n)
		}
		out[slug] = true
	}
	return out
}

func slugOf(title string) string {
	title = link.ReplaceAllString(title, "]")
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r)) || r == '_' || r == '-':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte(' ')
		}
	}
	return regexp.MustCompile(`[-\s]+`).ReplaceAllString(strings.TrimSpace(b.String()), "-")
}
