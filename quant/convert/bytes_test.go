package convert

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

var updateBytes = flag.Bool("update-bytes", false, "record the bytes of results anew")

// recordedBytes is a line a conversion: model, scheme, format, options, and the
// SHA-256 of all files but the manifest.
var recordedBytes = filepath.Join("testdata", "bytes.txt")

// TestBytesAreThoseRecorded: what becomes of the reference models, by every
// scheme, format, arithmetic and treatment of the MTP layer, has the bytes that
// earlier versions gave. A change here is a change of results: it belongs in
// the changelog, and the file is recorded anew with -update-bytes.
func TestBytesAreThoseRecorded(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out every conversion of the reference models")
	}
	type option struct {
		name string
		o    quant.Options
	}
	beside := []option{ // int4 experts alone
		{"rest-int8-channel", quant.Options{Rest: layout.RestInt8, GroupSize: layout.PerChannel}},
		{"rest-int8-channel-compat", quant.Options{Rest: layout.RestInt8, GroupSize: layout.PerChannel, Arith: numeric.Compat}},
		{"rest-bf16", quant.Options{Rest: layout.RestFloat}},
	}
	options := []option{
		{"default", quant.Options{}},
		{"compat", quant.Options{Arith: numeric.Compat}},
		{"mtp-quantize", quant.Options{MTP: layout.MTPQuantize}},
		{"mtp-drop", quant.Options{MTP: layout.MTPDrop}},
		{"group-32", quant.Options{GroupSize: 32}},
	}
	var got []string
	for _, model := range []string{"nano-glm4moe", "nano-glm5", "nano-glm52", "nano-glm45v", "tiny-glm4moe"} {
		dir := testkit.Shared(t, "reference/"+model)
		for _, s := range layout.Schemes {
			for _, f := range layout.Formats {
				if layout.Supported(s, f) != nil || s == layout.BF16 || s.Calibrated() {
					continue
				}
				list := options
				if s == layout.W4A8 && f == layout.CompressedTensors {
					list = append(slices.Clone(options), beside...)
				}
				for _, c := range list {
					got = append(got, fmt.Sprintf("%s %s %s %s %s", model, s, f, c.name, bytesOf(t, dir, s, f, c.o)))
				}
			}
		}
	}
	text := strings.Join(got, "\n") + "\n"
	if *updateBytes {
		require.NoError(t, os.WriteFile(recordedBytes, []byte(text), 0o644))
	}
	want, err := os.ReadFile(recordedBytes)
	require.NoError(t, err)
	assert.Equal(t, string(want), text)
}

// bytesOf converts a checkpoint and returns the hash of the result, or why
// there is none.
func bytesOf(t *testing.T, dir string, s quant.Scheme, f quant.Format, o quant.Options) string {
	src, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer src.Close()
	p, err := quant.NewPlan(src, s, f, o)
	var impossible *layout.ImpossibleError
	if errors.As(err, &impossible) {
		return "impossible"
	}
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "out")
	_, err = Run(t.Context(), p, src, out, Options{})
	require.NoError(t, err)
	entries, err := os.ReadDir(out) // by name
	require.NoError(t, err)
	all := sha256.New()
	for _, e := range entries {
		if e.Name() == quant.ManifestName {
			continue
		}
		sum, _, err := safetensors.HashFile(filepath.Join(out, e.Name()))
		require.NoError(t, err)
		fmt.Fprintf(all, "%s  %s\n", sum, e.Name())
	}
	require.NoError(t, os.RemoveAll(out))
	return hex.EncodeToString(all.Sum(nil))[:32]
}
