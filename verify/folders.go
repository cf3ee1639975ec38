package verify

import (
	"errors"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/safetensors"
)

// folders opens the folders of a comparison, each once: what asks for one that is
// open gets another handle of it.
type folders struct {
	mu   sync.Mutex
	open map[string]*safetensors.Checkpoint
}

// whatever opens a folder with whatever of it can be read.
func (f *folders) whatever(dir string) (*safetensors.Checkpoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.open[dir]; c != nil {
		return c.Share(), nil
	}
	c, err := safetensors.OpenDirOptions(dir, safetensors.Options{AllErrors: true})
	if err != nil {
		return nil, err
	}
	if f.open == nil {
		f.open = map[string]*safetensors.Checkpoint{}
	}
	f.open[dir] = c
	return c.Share(), nil
}

// whole opens a folder of which everything can be read. The error is that of
// safetensors.OpenDir.
func (f *folders) whole(dir string) (*safetensors.Checkpoint, error) {
	c, err := f.whatever(dir)
	if err == nil && c.Err() != nil {
		err = c.Err()
		_ = c.Close()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// unread is the error of a folder whose weights are quantised in a form that is
// not read here: nothing can be compared. A declaration that no tensor has was
// left over, and is for check to name.
func (f *folders) unread(dir string) error {
	cfg, err := glm.LoadConfig(dir)
	if err != nil || cfg.QuantizationConfig == nil {
		return nil //nolint:nilerr // a fault of the folder, not a reason to compare nothing
	}
	d, err := declaration.Config(cfg.QuantizationConfig)
	if err != nil || d.Unread() == "" {
		return nil //nolint:nilerr // likewise
	}
	c, err := f.whatever(dir)
	if err != nil {
		return nil //nolint:nilerr // likewise
	}
	defer func() { _ = c.Close() }()
	if cfg.StaleQuantization(c.Tensors()) != nil {
		return nil
	}
	return &Error{dir, d.Unread(), "give a checkpoint in a form that is read: glmconv check names it"}
}

// misplaced is the error of a folder that holds no checkpoint, but one below.
func misplaced(dir string) error {
	if _, err := fsx.Stat(filepath.Join(dir, "config.json")); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if below := origin.SayBelow(dir); below != "" {
		return &Error{dir, "the folder holds no config.json", below}
	}
	return nil
}

// close closes the folders, but for the handles that others still have.
func (f *folders) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.open {
		_ = c.Close()
	}
	f.open = nil
}
