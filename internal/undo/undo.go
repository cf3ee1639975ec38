// Package undo keeps what a command that changes a folder in place replaced, and
// puts it back.
//
//	r := &undo.Receipt{Kept: former, Created: made}
//	err := undo.Write(fsys, dir, r)            // in the folder StateDir, beside the former files
//	text, err := (&undo.Receipt{…}).Pack()     // or in one string, within the file that changes last
//	err = r.Restore(fsys, dir)
//
// A receipt is written before the first file gets another content and goes when
// the last one has its own again, so that what was interrupted at any point is
// either not begun or can be taken back.
package undo

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
)

// Receipt says what a change replaced, and what it made.
type Receipt struct {
	// Kept are the files that were replaced or taken away; they lie in
	// StateDir/old.
	Kept []string
	// Texts are former contents of small files, which the receipt holds itself;
	// nil: there was no such file.
	Texts map[string]*string
	// Created are the files that were not there before.
	Created []string
	// Done: the change was completed.
	Done bool
}

// Restore puts everything back: former files first, the texts of indexes last of
// them, and then what was made goes. It can be repeated after an interruption.
func (r *Receipt) Restore(fsys fsx.FS, dir string) error {
	texts := slices.SortedFunc(maps.Keys(r.Texts), func(a, b string) int {
		return 2*(boolInt(isIndex(a))-boolInt(isIndex(b))) + strings.Compare(a, b)
	})
	for _, name := range slices.Concat(r.Kept, texts, r.Created) {
		if name != filepath.Base(name) || name == "." || name == ".." || name == string(filepath.Separator) {
			return fmt.Errorf("%s: a receipt names %q, which leaves the folder", dir, name)
		}
	}
	for _, name := range r.Kept {
		err := fsys.Rename(Path(dir, "old", name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // put back by one that was interrupted
			return err
		}
	}
	for _, name := range texts {
		path := filepath.Join(dir, name)
		if text := r.Texts[name]; text != nil {
			if err := fsx.WriteFile(fsys, path, []byte(*text)); err != nil {
				return err
			}
		} else if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(r.Kept) > 0 { // both ends of a rename
		if err := fsys.SyncDir(Path(dir, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	for _, name := range r.Created {
		if err := fsys.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

func isIndex(name string) bool { return strings.HasSuffix(name, ".index.json") }

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// MarshalJSON writes former as a list of kept files or as an object of texts.
func (r *Receipt) MarshalJSON() ([]byte, error) {
	if r.Texts != nil {
		return json.Marshal(struct {
			Former  map[string]*string `json:"former"`
			Created []string           `json:"created"`
		}{r.Texts, r.Created})
	}
	return json.Marshal(struct {
		Former  []string `json:"former"`
		Created []string `json:"created"`
		Done    bool     `json:"done"`
	}{r.Kept, r.Created, r.Done})
}

// UnmarshalJSON reads either.
func (r *Receipt) UnmarshalJSON(raw []byte) error {
	var x struct {
		Former  json.RawMessage `json:"former"`
		Created []string        `json:"created"`
		Done    bool            `json:"done"`
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		return err
	}
	*r = Receipt{Created: x.Created, Done: x.Done}
	if bytes.HasPrefix(x.Former, []byte("{")) {
		return json.Unmarshal(x.Former, &r.Texts)
	}
	if x.Former == nil {
		return nil
	}
	return json.Unmarshal(x.Former, &r.Kept)
}

// A packed receipt may unpack to so much for each of its bytes, up to the limit
// of a text: indexes of many layers repeat themselves.
const (
	packedRatio = 300
	packedLeast = 1 << 20
)

// Pack returns the receipt as one JSON string.
func (r *Receipt) Pack() (json.RawMessage, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(b.Bytes()))
}

// Unpack reads what Pack returned.
func Unpack(v json.RawMessage) (*Receipt, error) {
	var text string
	if err := json.Unmarshal(v, &text); err != nil {
		return nil, err
	}
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	most := min(int64(packedLeast)+packedRatio*int64(len(packed)), fsx.MaxText)
	raw, err := io.ReadAll(io.LimitReader(z, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("it unpacks to more than %d bytes", most)
	}
	r := &Receipt{}
	return r, json.Unmarshal(raw, r)
}
