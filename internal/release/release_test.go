package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// program is what is packed.
var program = []byte("a program")

// sample is a build whose binaries hold these bytes.
func sample(t *testing.T, body []byte) (*build, string, []text) {
	t.Helper()
	out := t.TempDir()
	b := &build{root: "../..", version: "1.2.3-dev.4", commit: strings.Repeat("a", 40), time: time.Unix(1_700_000_000, 0).UTC()}
	if err := os.Mkdir(filepath.Join(out, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		if err := os.WriteFile(b.binary(out, target), body, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	texts := []text{{"man/glmconv.1", "/usr/share/man/man1/glmconv.1.gz", []byte(".TH GLMCONV 1\n")}, {"LICENSE", "", []byte("Apache\n")}}
	return b, out, texts
}

// TestArtefactsAreTheSameTwice: what packs a binary adds nothing of machine or time.
func TestArtefactsAreTheSameTwice(t *testing.T) {
	var sums []map[string]string
	for range 2 {
		b, out, texts := sample(t, program)
		for _, target := range targets {
			for _, err := range []error{b.archive(out, target, program, texts), b.wheel(out, target, program)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if target.os != "linux" {
				continue
			}
			for _, kind := range []string{"deb", "rpm"} {
				if err := b.packages(out, kind, target, program, texts); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, step := range []func(string) error{b.image, b.formula, b.checksums} {
			if err := step(out); err != nil {
				t.Fatal(err)
			}
		}
		s, err := sumsOf(out)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, s)
		time.Sleep(1100 * time.Millisecond) // times in archives have seconds
	}
	if len(sums[0]) < 20 {
		t.Fatalf("%d files", len(sums[0]))
	}
	for name, sum := range sums[0] {
		if sums[1][name] != sum {
			t.Errorf("%s differs", name)
		}
	}
}

func TestWheel(t *testing.T) {
	b, out, _ := sample(t, program)
	if err := b.wheel(out, targets[0], program); err != nil {
		t.Fatal(err)
	}
	name := "glmconv-1.2.3.dev4-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64.whl"
	r, err := zip.OpenReader(filepath.Join(out, name))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := map[string]bool{"data/scripts/glmconv": false, "dist-info/METADATA": false, "dist-info/WHEEL": false, "dist-info/RECORD": false, "dist-info/licenses/LICENSE": false}
	for _, f := range r.File {
		want[strings.TrimPrefix(f.Name, "glmconv-1.2.3.dev4.")] = true
		if strings.HasSuffix(f.Name, "scripts/glmconv") && f.Mode().Perm() != 0o755 {
			t.Errorf("the program has mode %v", f.Mode())
		}
	}
	for name, found := range want {
		if !found {
			t.Errorf("no %s", name)
		}
	}
}

func TestImageIsValid(t *testing.T) {
	b, out, _ := sample(t, program)
	if err := b.image(out); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(filepath.Join(out, "glmconv-1.2.3-dev.4-oci"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
}

// TestSBOMNamesTheModules: those that a program was built from.
func TestSBOMNamesTheModules(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	b, out, _ := sample(t, body)
	if err := b.sbom(out); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(out, "glmconv-1.2.3-dev.4-linux-amd64.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		BOMFormat  string
		Components []component
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.BOMFormat != "CycloneDX" || !bytes.Contains(raw, []byte("pkg:golang/github.com/goreleaser/nfpm/v2@v")) {
		t.Errorf("%s", raw)
	}
}

func TestRoff(t *testing.T) {
	for in, want := range map[string]string{"--scheme": `\-\-scheme`, ".TH": `\&.TH`, `a\b`: `a\eb`, "'x": `\&'x`} {
		if got := roff(in); got != want {
			t.Errorf("roff(%q) = %q, want %q", in, got, want)
		}
	}
	if got := paragraphs("One.\n\n  two\n  three\n\nFour."); got != "One.\n.PP\n.nf\n  two\n  three\n.fi\n.PP\nFour.\n" {
		t.Errorf("%q", got)
	}
}
