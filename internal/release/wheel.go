package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// platforms are the tags of wheels. A static binary runs with either C library;
// darwin is from the oldest release that Go supports on.
var platforms = map[target]string{
	{"linux", "amd64"}:  "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64",
	{"linux", "arm64"}:  "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
	{"darwin", "amd64"}: "macosx_12_0_x86_64",
	{"darwin", "arm64"}: "macosx_12_0_arm64",
}

var devPart = regexp.MustCompile(`-dev\.`)

// wheelVersion is the version as Python spells it: 1.2.3.dev45.
func (b *build) wheelVersion() string { return devPart.ReplaceAllString(b.version, ".dev") }

func (b *build) wheelName(t target) string {
	return fmt.Sprintf("glmconv-%s-py3-none-%s.whl", b.wheelVersion(), platforms[t])
}

// wheel writes a wheel whose script is the binary itself: pip puts it on PATH, no
// Python starts with it, and signals and exit codes reach it.
func (b *build) wheel(out string, t target, binary []byte) error {
	info := "glmconv-" + b.wheelVersion() + ".dist-info/"
	var tags strings.Builder
	for _, p := range strings.Split(platforms[t], ".") {
		fmt.Fprintf(&tags, "Tag: py3-none-%s\n", p)
	}
	metadata := fmt.Sprintf("Metadata-Version: 2.4\nName: glmconv\nVersion: %s\nSummary: %s\nLicense-Expression: %s\nLicense-File: LICENSE\nLicense-File: NOTICE\n"+
		"Project-URL: Homepage, %s\nRequires-Python: >=3.8\nDescription-Content-Type: text/markdown\n\n", b.wheelVersion(), summary, licence, homepage)
	readme, err := os.ReadFile(filepath.Join(b.root, "README.md"))
	if err != nil {
		return err
	}
	files := []entry{{name: "glmconv-" + b.wheelVersion() + ".data/scripts/glmconv", mode: 0o755, body: binary}}
	for _, name := range []string{"LICENSE", "NOTICE"} {
		body, err := os.ReadFile(filepath.Join(b.root, name))
		if err != nil {
			return err
		}
		files = append(files, entry{name: info + "licenses/" + name, mode: 0o644, body: body})
	}
	files = append(files,
		entry{name: info + "METADATA", mode: 0o644, body: append([]byte(metadata), readme...)},
		entry{name: info + "WHEEL", mode: 0o644, body: []byte("Wheel-Version: 1.0\nGenerator: glmconv\nRoot-Is-Purelib: false\n" + tags.String())})
	var record strings.Builder
	for _, f := range files {
		sum := sha256.Sum256(f.body)
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", f.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(f.body))
	}
	record.WriteString(info + "RECORD,,\n")
	files = append(files, entry{name: info + "RECORD", mode: 0o644, body: []byte(record.String())})
	raw, err := b.zipped(files)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, b.wheelName(t)), raw, 0o644)
}

func (b *build) zipped(files []entry) ([]byte, error) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: b.time}
		h.SetMode(os.FileMode(f.mode))
		to, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := to.Write(f.body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
