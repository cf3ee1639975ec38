package mutate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

const manifestName = "glmconv-manifest.json"

// volatile is the file system without waiting for the disk: what is damaged
// here need not survive a crash.
type volatile struct{ fsx.FS }

type volatileFile struct{ fsx.File }

func (volatileFile) Sync() error             { return nil }
func (volatileFile) Preallocate(int64) error { return nil }
func (volatile) SyncDir(string) error        { return nil }

func (v volatile) Create(path string) (fsx.File, error) {
	f, err := v.FS.Create(path)
	return volatileFile{f}, err
}

// Tensor is a tensor with its bytes and the file it lies in.
type Tensor struct {
	safetensors.Spec
	File string
	Data []byte
}

// Set is all tensors of a checkpoint by name.
type Set map[string]*Tensor

// Module returns the tensors of one module by their last part: weight,
// weight_scale, … Empty if there is none.
func (s Set) Module(name string) map[string]*Tensor {
	out := map[string]*Tensor{}
	for n, t := range s {
		if part, ok := strings.CutPrefix(n, name+"."); ok && !strings.Contains(part, ".") {
			out[part] = t
		}
	}
	return out
}

// Names returns the names that match, sorted.
func (s Set) Names(match func(string) bool) (out []string) {
	for n := range s {
		if match(n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Edit reads the tensors of dir, lets fn change them, and writes weights, index
// and the manifest's sizes and hashes anew if it reports a change.
func Edit(dir string, fn func(s Set) (bool, error)) (bool, error) {
	c, err := safetensors.OpenDir(dir)
	if err != nil {
		return false, fmt.Errorf("mutate: %w", err)
	}
	index, s, files := c.IndexName(), Set{}, map[string]bool{}
	for _, x := range c.Tensors() {
		raw, err := io.ReadAll(c.Reader(x))
		if err != nil {
			return false, errors.Join(fmt.Errorf("mutate: %w", err), c.Close())
		}
		s[x.Name] = &Tensor{safetensors.Spec{Name: x.Name, DType: x.DType, Shape: slices.Clone(x.Shape)}, x.File, raw}
		files[x.File] = true
	}
	if err := c.Close(); err != nil {
		return false, fmt.Errorf("mutate: %w", err)
	}
	hit, err := fn(s)
	if err != nil || !hit {
		return false, err
	}
	weightMap, total := map[string]string{}, int64(0)
	for _, t := range s {
		files[t.File] = true
	}
	for file := range files {
		var list []*Tensor
		for _, name := range s.Names(func(n string) bool { return s[n].File == file }) {
			list = append(list, s[name])
			weightMap[name] = file
			total += int64(len(s[name].Data))
		}
		slices.SortStableFunc(list, func(a, b *Tensor) int { return b.DType.Bits() - a.DType.Bits() })
		if err := writeShard(dir, file, list); err != nil {
			return false, err
		}
	}
	if index != "" {
		if err := safetensors.WriteIndex(volatile{fsx.OS}, dir, index, weightMap, total); err != nil {
			return false, fmt.Errorf("mutate: %w", err)
		}
	}
	return true, forge(dir)
}

func writeShard(dir, file string, list []*Tensor) error {
	if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mutate: %w", err)
	}
	if len(list) == 0 {
		return nil
	}
	return newShard(dir, file, list)
}

// newShard writes a file that is not there.
func newShard(dir, file string, list []*Tensor) error {
	specs := make([]safetensors.Spec, len(list))
	for i, t := range list {
		specs[i] = t.Spec
		if t.Bytes() != int64(len(t.Data)) {
			return fmt.Errorf("mutate: %s has %d bytes, its shape wants %d", t.Name, len(t.Data), t.Bytes())
		}
	}
	plan, err := safetensors.PlanFile(file, specs, nil)
	if err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	w, err := safetensors.Create(volatile{fsx.OS}, dir, plan)
	if err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	for _, t := range list {
		if _, err := w.Write(t.Data); err != nil {
			return fmt.Errorf("mutate: %w", err)
		}
	}
	if _, err := w.Commit(); err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	return nil
}

// EditJSON lets fn change a JSON file of dir and makes the manifest fit. A
// missing file is no error: the mutation does not apply.
func EditJSON(dir, name string, fn func(m map[string]any) bool) (bool, error) {
	path := filepath.Join(dir, name)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("mutate: %w", err)
	}
	m, err := object(raw)
	if err != nil {
		return false, fmt.Errorf("mutate: %s: %w", name, err)
	}
	if !fn(m) {
		return false, nil
	}
	if err := replace(path, m); err != nil {
		return false, err
	}
	return true, forge(dir)
}

// object decodes with numbers kept as they are written.
func object(raw []byte) (m map[string]any, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return m, dec.Decode(&m)
}

func replace(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	return swap(path, append(raw, '\n'))
}

// swap replaces a file by a new one.
func swap(path string, raw []byte) error {
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	return nil
}

// forge makes the manifest's sizes and hashes those of the files.
func forge(dir string) error {
	path := filepath.Join(dir, manifestName)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	m, err := object(raw)
	if err != nil {
		return fmt.Errorf("mutate: manifest: %w", err)
	}
	list, _ := m["files"].([]any)
	var kept []any
	for _, x := range list {
		f, _ := x.(map[string]any)
		name, _ := f["name"].(string)
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("mutate: %w", err)
		}
		sum := sha256.Sum256(raw)
		f["size"], f["sha256"] = len(raw), hex.EncodeToString(sum[:])
		kept = append(kept, f)
	}
	m["files"] = kept
	return replace(path, m)
}
