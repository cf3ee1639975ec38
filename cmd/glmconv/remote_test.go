package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fakes"
	"github.com/glmconv/glmconv/internal/fakes/fakeazure"
	"github.com/glmconv/glmconv/internal/fakes/fakegcs"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/fakes/fakeweb"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
)

const canary = "glmconv-canary-4711"

// hubOf starts a hub with the built-in model and points the environment at it.
func hubOf(t *testing.T) (hub *fakehub.Hub, local string) {
	local = filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, demo.Extract(local))
	hub = fakehub.New(t, "org/nano", local)
	hub.Token = canary
	for _, e := range hub.Env(t.TempDir()) {
		k, v, _ := strings.Cut(e, "=")
		t.Setenv(k, v)
	}
	t.Setenv("HF_HUB_OFFLINE", "")
	return hub, local
}

// glmconv runs a command line in this process.
func glmconv(t *testing.T, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"glmconv"}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// TestHubThroughTheCommands: what commands say of a published checkpoint is what
// they say of its copy, and no secret is in anything they write.
func TestHubThroughTheCommands(t *testing.T) {
	hub, local := hubOf(t)
	dir := t.TempDir()
	const address = "hf://org/nano"
	name := address + "@" + hub.Commit
	written := []string{}
	for _, args := range [][]string{
		{"inspect", "SRC"}, {"inspect", "--json", "SRC"}, {"plan", "--scheme", "w4a8", "SRC"}, {"plan", "--scheme", "w8a8", "--json", "SRC"},
		{"check", "SRC"}, {"diff", "SRC", local},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			with := func(src string) []string {
				out := append([]string{}, args...)
				for i := range out {
					if out[i] == "SRC" {
						out[i] = src
					}
				}
				return out
			}
			wantCode, want, _ := glmconv(t, with(local)...)
			code, got, errs := glmconv(t, with(address)...)
			assert.Equal(t, wantCode, code, errs)
			names := strings.NewReplacer(name, "DIR", address, "DIR", local, "DIR", filepath.Base(name), "BASE", filepath.Base(local), "BASE")
			assert.Equal(t, names.Replace(want), names.Replace(got))
			assert.Contains(t, errs, "at commit "+hub.Commit)
			written = append(written, got, errs)
		})
	}
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	code, _, errs := glmconv(t, "quantize", "--scheme", "w8a8", local, a)
	require.Zero(t, code, errs)
	code, out, errs := glmconv(t, "quantize", "--scheme", "w8a8", "--json", "--log-level", "debug", "--connections", "3", address, b)
	require.Zero(t, code, errs)
	written = append(written, out, errs)
	var res quantizeResult
	require.NoError(t, json.Unmarshal([]byte(out), &res))
	require.NotNil(t, res.Network)
	assert.Greater(t, res.Network.Bytes, int64(4<<20))
	x, err := fakehub.Folder(a)
	require.NoError(t, err)
	y, err := fakehub.Folder(b)
	require.NoError(t, err)
	for n := range x {
		written = append(written, string(y[n]))
		if n == quant.ManifestName { // which says where the source was, and nothing else of it
			m, err := quant.ParseManifest(y[n])
			require.NoError(t, err)
			require.NotNil(t, m.Source)
			assert.Equal(t, name, m.Source.URI)
			m.Source = nil
			y[n], err = json.MarshalIndent(m, "", " ")
			require.NoError(t, err)
			y[n] = append(y[n], '\n')
		}
		assert.True(t, bytes.Equal(x[n], y[n]), "%s differs", n)
	}
	code, out, errs = glmconv(t, "verify", "--skip-forward", address, b)
	assert.Contains(t, []int{0, 3}, code, errs)
	written = append(written, out, errs)

	code, out, errs = glmconv(t, "quantize", "--scheme", "w8a8", address, b)
	assert.Zero(t, code, errs)
	assert.Contains(t, out, "already done")

	hub.Lock()
	hub.Fail = func(r fakes.Request) fakes.Fault {
		if r.Host == "data" {
			return fakes.Whole
		}
		return fakes.None
	}
	hub.Unlock()
	code, out, errs = glmconv(t, "inspect", address)
	assert.Equal(t, exitBadInput, code)
	assert.Contains(t, errs, "does not serve ranges")
	for _, text := range append(written, out, errs) {
		assert.NotContains(t, text, canary)
		assert.NotContains(t, text, "Signature=")
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	hub, local := hubOf(t)
	for _, test := range []struct {
		args string
		code int
		says string
	}{
		{"inspect hf://name", 2, "needs an organisation and a name"},
		{"inspect hf://datasets/org/name", 2, "not a repository of a model"},
		{"inspect ftp://host/x", 2, "scheme that is not known"},
		{"inspect http://example.com/x/", 2, "not encrypted"},
		{"inspect https://example.com/x", 2, "slash"},
		{"inspect https://user:" + canary + "@example.com/x/", 2, "credentials"},
		{"inspect hf://org/../name", 2, "no hub allows"},
		{"inspect hf://org/absent", 65, "not found, or private"},
		{"inspect --offline hf://org/nano", 74, "not in the hub's cache"},
		{"inspect hf-cache://org/nano@../x", 2, "no name"},
		{"inspect --connections 65 hf://org/nano", 2, "1 to 64"},
		{"inspect --bandwidth fast hf://org/nano", 2, "bytes a second"},
		{"quantize --scheme w8a8 --cache-size 5GB hf://org/nano x", 2, "bounds the folder of --cache"},
		{"quantize --scheme w8a8 --cache x --cache-size much hf://org/nano x", 2, "such as 200GB"},
		{"run --prompt x hf://org/nano", 2, "for every token"},
		{"mtp-remap hf://org/nano", 2, "local disk"},
		{"quantize --scheme w8a8 " + local + " hf://org/nano", 2, "local disk"},
		{"quantize --scheme w8a8 " + local + " gs://bucket/x", 2, "local disk"},
		{"quantize --scheme w8a8 " + local + " az://acct/models/x", 2, "local disk"},
		{"inspect az://acct", 2, "account and a container"},
		{"inspect --offline gs://bucket/x", 74, "switched off"},
		{"quantize --scheme w8a8 --connections 64 --max-memory 512MiB hf://org/nano " + filepath.Join(t.TempDir(), "x"), 2, "too little for 64 connections"},
	} {
		t.Run(test.args, func(t *testing.T) {
			hub.Reset()
			code, out, errs := glmconv(t, strings.Fields(test.args)...)
			assert.Equal(t, test.code, code, errs)
			assert.Contains(t, errs, test.says)
			assert.Empty(t, out)
			assert.NotContains(t, errs, canary)
			if test.code == 2 && !strings.Contains(test.args, "512MiB") {
				assert.Empty(t, hub.Log(), "nothing is asked for a wrong command line")
			}
		})
	}
}

// TestStoresThroughTheCommands: checkpoints in Google's and Azure's stores are what
// their copies are, and no secret is in anything that is written.
func TestStoresThroughTheCommands(t *testing.T) {
	local := filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, demo.Extract(local))
	files, err := fakehub.Folder(local)
	require.NoError(t, err)
	objects := map[string][]byte{}
	for n, b := range files {
		objects["models/"+demo.Name+"/"+n] = b
	}
	gs, az := fakegcs.New(t, "bucket", objects), fakeazure.New(t, "glm", objects)
	for _, e := range append(gs.Env(t), az.Env()...) {
		k, v, _ := strings.Cut(e, "=")
		t.Setenv(k, v)
	}
	t.Setenv("HF_HUB_OFFLINE", "")
	want := filepath.Join(t.TempDir(), "want")
	code, _, errs := glmconv(t, "quantize", "--scheme", "w8a8", local, want)
	require.Zero(t, code, errs)
	_, plain, _ := glmconv(t, "inspect", local)
	for _, address := range []string{"gs://bucket/models/" + demo.Name, "az://acct/glm/models/" + demo.Name} {
		code, out, errs := glmconv(t, "inspect", address)
		require.Zero(t, code, errs)
		clean := strings.NewReplacer(address, "DIR", local, "DIR")
		assert.Equal(t, clean.Replace(plain), clean.Replace(out))
		written := []string{out, errs}
		dst, plan := filepath.Join(t.TempDir(), "dst"), filepath.Join(t.TempDir(), "plan")
		code, out, errs = glmconv(t, "plan", "--scheme", "w8a8", "--save", plan, address)
		require.Zero(t, code, errs)
		written = append(written, out, errs)
		code, out, errs = glmconv(t, "quantize", "--scheme", "w8a8", "--plan", plan, "--json", "--log-level", "debug", address, dst)
		require.Zero(t, code, errs)
		written = append(written, out, errs)
		x, y := testkit.Result(t, want), testkit.Result(t, dst)
		require.Equal(t, len(x), len(y))
		for n := range x {
			assert.True(t, x[n] == y[n], "%s differs", n)
		}
		m, err := quant.ReadManifest(dst)
		require.NoError(t, err)
		assert.Equal(t, address, m.Source.URI)
		for name, text := range testkit.Files(t, dst) {
			if !strings.HasSuffix(name, ".safetensors") {
				written = append(written, text)
			}
		}
		for _, text := range written {
			for _, secret := range []string{canary, "sig=", "PRIVATE KEY"} {
				assert.NotContains(t, text, secret)
			}
		}
	}
}

// TestLocalRunsAskNobody: with a hub in the environment, a run on folders makes
// no request.
func TestLocalRunsAskNobody(t *testing.T) {
	hub, local := hubOf(t)
	dst := filepath.Join(t.TempDir(), "dst")
	for _, args := range [][]string{{"inspect", local}, {"plan", "--scheme", "w8a8", local}, {"quantize", "--scheme", "w8a8", local, dst}, {"check", dst}, {"diff", local, dst}} {
		code, _, errs := glmconv(t, args...)
		assert.Zero(t, code&^1, errs)
	}
	assert.Empty(t, hub.Log())
	_, err := os.Stat(dst)
	require.NoError(t, err)
}

// TestMovedBranch: a result that was begun from a branch is resumed, and verified,
// at the commit that the branch had then.
func TestMovedBranch(t *testing.T) {
	hub, local := hubOf(t)
	dir := t.TempDir()
	dst, want := filepath.Join(dir, "dst"), filepath.Join(dir, "want")
	code, _, errs := glmconv(t, "quantize", "--scheme", "w8a8", local, want)
	require.Zero(t, code, errs)
	was := hub.Commit
	code, _, errs = glmconv(t, "quantize", "--scheme", "w8a8", "--index", "1", "--count", "2", "hf://org/nano", dst)
	require.Zero(t, code, errs)
	if _, err := os.Stat(filepath.Join(dst, quant.ManifestName)); err == nil {
		require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName))) // one shard was all: as if it had been killed before the manifest
		require.NoError(t, os.Mkdir(filepath.Join(dst, ".glmconv"), 0o755))
		m, err := quant.ReadManifest(want)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dst, ".glmconv", "plan"), []byte(m.Fingerprint+"\n"), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dst, ".glmconv", "source"), []byte(`{"uri": "hf://org/nano@`+was+`"}`), 0o644))
	}
	hub.Lock()
	hub.Moved = strings.Repeat("badc0de1", 5)
	hub.Unlock()
	code, _, errs = glmconv(t, "quantize", "--scheme", "w8a8", "--resume", "hf://org/nano@"+hub.Moved, dst)
	assert.Equal(t, exitUsage, code, errs)
	assert.Contains(t, errs, "was begun from hf://org/nano@"+was)
	code, _, errs = glmconv(t, "quantize", "--scheme", "w8a8", "--resume", "hf://org/nano@main", dst)
	require.Zero(t, code, errs)
	assert.Contains(t, errs, "that commit is read")
	m, err := quant.ReadManifest(dst)
	require.NoError(t, err)
	assert.Equal(t, was, m.Source.Commit)
	code, _, errs = glmconv(t, "verify", "--skip-forward", "hf://org/nano", dst)
	assert.Contains(t, []int{0, 3}, code, errs)
	assert.Contains(t, errs, "at commit "+was)
}

// TestFullSourceCheck: commands that read weights read what is left of their shards
// before they say anything, and refuse a source that publishes no hashes.
func TestFullSourceCheck(t *testing.T) {
	hub, local := hubOf(t)
	dir := t.TempDir()
	ids := filepath.Join(dir, "ids.json")
	require.NoError(t, os.WriteFile(ids, []byte("[[1,2,3]]"), 0o600))
	files, err := fakehub.Folder(local)
	require.NoError(t, err)
	web := fakeweb.New(t, files)
	for _, args := range [][]string{
		{"logits", "--token-ids", ids, "--out", filepath.Join(dir, "l.safetensors"), "SRC"},
		{"verify", "--skip-forward", "SRC", local}, {"diff", "SRC", local}, {"quantize", "--scheme", "fp8", "SRC", filepath.Join(dir, "dst")},
	} {
		t.Run(args[0], func(t *testing.T) {
			with := func(check, src string) (code int, errs string) {
				line := slices.Clone(args)
				line[slices.Index(line, "SRC")] = src
				code, _, errs = glmconv(t, slices.Insert(line, 1, "--source-check", check)...)
				return code, errs
			}
			code, errs := with("full", web.URL)
			assert.Equal(t, exitUsage, code)
			assert.Contains(t, errs, "no published hash")
			code, errs = with("full", "hf://org/nano")
			assert.Contains(t, []int{0, exitUndecided}, code, errs)
			hub.Fail = func(r fakes.Request) fakes.Fault {
				if r.Host == "data" && !strings.HasSuffix(r.Range, "-32767") { // headers come right
					return fakes.Flip
				}
				return fakes.None
			}
			defer func() { hub.Fail = nil }()
			if args[0] == "quantize" {
				return
			}
			code, errs = with("full", "hf://org/nano")
			assert.Equal(t, exitBadInput, code)
			assert.Contains(t, errs, "the listing says")
		})
	}
	code, _, errs := glmconv(t, "inspect", "--source-check", "half", "hf://org/nano")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errs, "full, auto or off")
}
