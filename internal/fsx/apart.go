package fsx

import (
	"os"
	"path/filepath"
)

// Overlap says how a directory to be written lies to one that is read, "" if
// they have nothing to do with each other: "is", "lies inside" or "contains".
// Links, relative paths and spellings that the file system takes for one lead to
// the same answer; dst need not exist yet.
func Overlap(src, dst string) (string, error) {
	if remote(src) || remote(dst) {
		return overlapRemote(src, dst), nil
	}
	s, err := resolve(src)
	if err != nil {
		return "", err
	}
	d, err := resolve(dst)
	if err != nil {
		return "", err
	}
	switch {
	case same(s, d):
		return "is", nil
	case within(s, d):
		return "lies inside", nil
	case within(d, s):
		return "contains", nil
	}
	return "", nil
}

// resolve follows the links of the part of a path that exists.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for probe := abs; ; probe = filepath.Dir(probe) {
		if real, err := filepath.EvalSymlinks(probe); err == nil {
			return filepath.Join(real, rest), nil
		}
		if probe == filepath.Dir(probe) {
			return abs, nil
		}
		rest = filepath.Join(filepath.Base(probe), rest)
	}
}

// within reports whether path lies below dir.
func within(dir, path string) bool {
	for p := filepath.Dir(path); ; p = filepath.Dir(p) {
		if same(dir, p) {
			return true
		}
		if p == filepath.Dir(p) {
			return false
		}
	}
}

func same(a, b string) bool {
	if a == b {
		return true
	}
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
