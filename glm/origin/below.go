package origin

import (
	"os"
	"path/filepath"
	"strings"
)

// Below returns the folders with a config.json beneath a folder without one, at
// most four: those of the nearest level that has any, down to a snapshot in a
// hub's cache (models--ORG--NAME/snapshots/COMMIT). nil: there is none.
func Below(dir string) []string {
	for _, pattern := range []string{"*", "*/*", "*/*/*"} {
		found, err := filepath.Glob(filepath.Join(escapeGlob(dir), filepath.FromSlash(pattern), "config.json"))
		if err != nil || len(found) == 0 {
			continue
		}
		found = found[:min(len(found), 4)]
		for i := range found {
			found[i] = filepath.Dir(found[i])
		}
		return found
	}
	return nil
}

// SayBelow is the hint that names them, "" for none.
func SayBelow(dir string) string {
	below := Below(dir)
	if len(below) == 0 {
		return ""
	}
	if len(below) > 3 {
		below[3] = "…"
	}
	return "a checkpoint is in " + strings.Join(below, ", ")
}

// escapeGlob keeps filepath.Glob from reading a folder's name as a pattern.
func escapeGlob(dir string) string {
	if os.PathSeparator == '\\' {
		return dir // has no escapes there
	}
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(dir)
}
