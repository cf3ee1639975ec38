package samples

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// Sample is one change: its words and the files that it makes or changes.
type Sample struct {
	About string
	Files map[string][]byte // by path in the tree, as they are with it
}

// Read reads a sample and applies its hunks to the files of the tree.
func Read(path, tree string) (*Sample, error) {
	a, err := txtar.ParseFile(path)
	if err != nil {
		return nil, err
	}
	s := &Sample{About: string(a.Comment), Files: map[string][]byte{}}
	for _, f := range a.Files {
		old, err := os.ReadFile(filepath.Join(tree, filepath.FromSlash(f.Name)))
		switch {
		case os.IsNotExist(err):
			s.Files[f.Name] = f.Data
			continue
		case err != nil:
			return nil, err
		}
		text, err := patch(string(old), string(f.Data))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", filepath.Base(path), f.Name, err)
		}
		s.Files[f.Name] = []byte(text)
	}
	return s, nil
}

// Sources returns the Go files that are no tests, sorted.
func (s *Sample) Sources() (list []string) {
	for name := range s.Files {
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// patch applies hunks to a text.
func patch(text, hunks string) (string, error) {
	lines := strings.Split(text, "\n")
	for hunk := range strings.SplitSeq("\n"+hunks, "\n@@\n") {
		var old, made []string
		for line := range strings.SplitSeq(strings.Trim(hunk, "\n"), "\n") {
			switch {
			case line == "": // an empty line of the file, whose space was trimmed
				old, made = append(old, ""), append(made, "")
			case line[0] == ' ':
				old, made = append(old, line[1:]), append(made, line[1:])
			case line[0] == '-':
				old = append(old, line[1:])
			case line[0] == '+':
				made = append(made, line[1:])
			default:
				return "", fmt.Errorf("no line of a hunk: %q", line)
			}
		}
		at := -1
		for i := 0; i+len(old) <= len(lines); i++ {
			if slices.Equal(lines[i:i+len(old)], old) {
				if at >= 0 {
					return "", fmt.Errorf("these lines stand there twice: %q", old)
				}
				at = i
			}
		}
		if at < 0 {
			return "", fmt.Errorf("these lines are not there: %q", old)
		}
		lines = slices.Concat(lines[:at], made, lines[at+len(old):])
	}
	return strings.Join(lines, "\n"), nil
}
