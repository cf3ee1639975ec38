package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is a file, or with a name that ends in "/" a folder, of a tar archive.
type entry struct {
	name string
	mode int64
	body []byte
	uid  int
}

// tarball packs entries in their order, owned by root unless they say otherwise.
func tarball(entries []entry, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.body)), ModTime: at, Typeflag: tar.TypeReg, Uid: e.uid, Gid: e.uid, Format: tar.FormatUSTAR}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// gzipped compresses without a name or time.
func gzipped(raw []byte) ([]byte, error) {
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
	return b.Bytes(), nil
}

// archiveName is that of a platform's archive.
func (b *build) archiveName(t target) string {
	return fmt.Sprintf("glmconv-%s-%s-%s.tar.gz", b.version, t.os, t.arch)
}

// archive writes binary, manual pages, completions and licences of a platform.
func (b *build) archive(out string, t target, binary []byte, texts []text) error {
	top := strings.TrimSuffix(b.archiveName(t), ".tar.gz")
	entries := []entry{{name: path.Join(top, "glmconv"), mode: 0o755, body: binary}}
	for _, x := range texts {
		entries = append(entries, entry{name: path.Join(top, x.name), mode: 0o644, body: x.body})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	raw, err := tarball(entries, b.time)
	if err != nil {
		return err
	}
	if raw, err = gzipped(raw); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, b.archiveName(t)), raw, 0o644)
}

// checksums writes SHA256SUMS over everything, in the form of sha256sum.
func (b *build) checksums(out string) error {
	sums, err := sumsOf(out)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range sums {
			if !yield(n) {
				return
			}
		}
	}) {
		fmt.Fprintf(&text, "%s  %s\n", sums[name], name)
	}
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), []byte(text.String()), 0o644)
}

// sumsOf hashes every file below a folder but the sums themselves.
func sumsOf(dir string) (map[string]string, error) {
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "SHA256SUMS" {
			return err
		}
		body, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		sums[filepath.ToSlash(rel)] = digest(body)
		return err
	})
	return sums, err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
