package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/source"
)

// advised is an error with a hint.
type advised struct{ what, hint string }

func (e *advised) Error() string { return e.what }
func (e *advised) Hint() string  { return e.hint }

// isHubName reports whether a path looks like a name of a hub, ORG/NAME.
func isHubName(path string) bool {
	org, name, ok := strings.Cut(filepath.ToSlash(path), "/")
	return ok && org != "" && name != "" && !strings.Contains(name, "/") && !strings.ContainsAny(path[:1], ".~") && !strings.Contains(path, " ")
}

const wantFolder = "give the folder that holds config.json and the shards, or an address such as hf://ORG/NAME"

// noCheckpoint explains an argument that names no folder, a file, or a folder
// without config.json; nil if nothing of that is so.
func noCheckpoint(dir string) error {
	if source.Scheme(dir) != "" {
		return nil
	}
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && isHubName(dir):
		return &advised{dir + ": there is no such folder", fmt.Sprintf("a model of the Hugging Face hub is read as hf://%s", filepath.ToSlash(dir))}
	case errors.Is(err, fs.ErrNotExist):
		return &advised{dir + ": there is no such folder", wantFolder}
	case err != nil:
		return nil
	case !st.IsDir():
		return &advised{dir + ": not a directory but a file", fileHint(dir)}
	}
	if _, err := os.Lstat(filepath.Join(dir, "config.json")); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	if below := origin.SayBelow(dir); below != "" {
		return &advised{dir + ": the folder holds no config.json", below}
	}
	if len(entries) == 0 {
		return &advised{dir + ": the folder is empty", wantFolder}
	}
	return &advised{dir + ": the folder holds no config.json", wantFolder + "; of a download, fetch config.json too"}
}

// fileHint says what to give in place of a file.
func fileHint(file string) string {
	const want = "give the directory that holds config.json and the shards"
	switch strings.ToLower(filepath.Ext(file)) {
	case ".gguf":
		return want + ", of the safetensors release: GGUF is llama.cpp's"
	case ".safetensors", ".json":
		if isFile(filepath.Join(filepath.Dir(file), "config.json")) {
			return want + ": " + filepath.Dir(file)
		}
	}
	return want
}
