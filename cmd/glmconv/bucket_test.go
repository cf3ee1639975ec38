package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/fakes/fakes3"
)

// bucketOf starts an empty store and points the environment at it.
func bucketOf(t *testing.T) *fakes3.Store {
	s := fakes3.New(t, "bucket", nil)
	for _, e := range s.Env() {
		k, v, _ := strings.Cut(e, "=")
		t.Setenv(k, v)
	}
	t.Setenv("HF_HUB_OFFLINE", "")
	return s
}

// TestBucketThroughTheCommands: a result in a bucket is the result in a folder, in
// one run or in parts, and what judges a folder judges it.
func TestBucketThroughTheCommands(t *testing.T) {
	s := bucketOf(t)
	local := filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, demo.Extract(local))
	folder := filepath.Join(t.TempDir(), "folder")
	code, _, errs := glmconv(t, "quantize", "--scheme", "w4a8", local, folder)
	require.Zero(t, code, errs)
	want, err := fakehub.Folder(folder)
	require.NoError(t, err)
	const address = "s3://bucket/results/nano"

	code, out, errs := glmconv(t, "quantize", "--scheme", "w4a8", "--dry-run", local, address)
	require.Zero(t, code, errs)
	assert.Contains(t, out, "requests that write")
	assert.Empty(t, s.Log(), "a dry run asks for nothing")

	code, out, errs = glmconv(t, "quantize", "--scheme", "w4a8", "--json", local, address)
	require.Zero(t, code, errs)
	var res quantizeResult
	require.NoError(t, json.Unmarshal([]byte(out), &res))
	require.NotNil(t, res.Network)
	assert.GreaterOrEqual(t, res.Network.Bytes, res.ResultBytes)
	same := func() {
		t.Helper()
		assert.Len(t, s.Objects, len(want))
		for n, b := range want {
			assert.True(t, string(b) == string(s.Objects["results/nano/"+n]), "%s differs", n)
			assert.NotContains(t, string(b), canary)
		}
		assert.Empty(t, s.Uploads)
	}
	same()
	assert.NotContains(t, out+errs, canary)

	for _, args := range [][]string{{"check"}, {"inspect"}} {
		wantCode, wantOut, _ := glmconv(t, append(args, folder)...)
		code, out, errs := glmconv(t, append(args, address)...)
		assert.Equal(t, wantCode, code, errs)
		clean := strings.NewReplacer(address, "DIR", folder, "DIR", filepath.Base(address), "BASE", filepath.Base(folder), "BASE")
		assert.Equal(t, clean.Replace(wantOut), clean.Replace(out))
	}
	code, out, errs = glmconv(t, "quantize", "--scheme", "w4a8", local, address)
	assert.Zero(t, code, errs)
	assert.Contains(t, out, "already done")
	code, _, errs = glmconv(t, "quantize", "--scheme", "w8a8", local, address)
	assert.Equal(t, exitUsage, code, errs)
	assert.Contains(t, errs, "another plan")

	clear(s.Objects)
	for part := range []int{1, 2} {
		code, _, errs = glmconv(t, "quantize", "--scheme", "w4a8", "--resume", "--index", string('1'+rune(part)), "--count", "2", local, address)
		require.Zero(t, code, errs)
	}
	same()
}

func TestBucketsThatAreRefused(t *testing.T) {
	s := bucketOf(t)
	local := filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, demo.Extract(local))
	for _, test := range []struct {
		args string
		code int
		says string
	}{
		{"gs://bucket/x", 2, "cannot be written"},
		{"ms://org/name", 2, "s3://BUCKET/PREFIX"},
		{"https://example.com/x/", 2, "s3://BUCKET/PREFIX"},
		{"s3://b/x", 2, "no valid name of a bucket"},
		{"s3://bucket/../x", 2, "relative part"},
		{"s3://absent/x", 65, "bucket does not exist"},
		{"--offline s3://bucket/x", 74, "switched off"},
		{"--max-memory 128MiB s3://bucket/x", 2, "too little for writing into a bucket"},
	} {
		t.Run(test.args, func(t *testing.T) {
			code, _, errs := glmconv(t, append([]string{"quantize", "--scheme", "w8a8", local}, strings.Fields(test.args)...)...)
			assert.Equal(t, test.code, code, errs)
			assert.Contains(t, errs, test.says)
			assert.Empty(t, s.Objects)
		})
	}
}
