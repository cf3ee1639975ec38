//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/fakes"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/fakes/fakes3"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/reach"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/source"
)

// TestGLM5FromItsHeaders plans the conversion of a GLM-5 of true size (282 shards,
// 59,870 tensors, 1.5 TB, files with holes) on a hub that takes 50 ms for each
// answer. What it may read and ask is counted. Time and memory are printed: most of
// both is the plan itself, of a copy on the disk as well.
func TestGLM5FromItsHeaders(t *testing.T) {
	if os.Getenv("GLMCONV_TORTURE")+os.Getenv("GLMCONV_RATES") == "" {
		t.Skip("SKIPPED: takes up to half a minute: make torture, or GLMCONV_RATES=1")
	}
	plan, err := synth.NewPlan(synth.Options{Preset: "glm-5", Sparse: true, ShardBytes: 5370 << 20})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "GLM-5")
	if err := plan.Write(t.Context(), dir); err != nil {
		t.Skipf("SKIPPED: no files with holes of this size here: %v", err)
	}
	hub := fakehub.NewDir(t, "org/glm-5", dir, false)
	hub.Latency = 50 * time.Millisecond
	_, want, _ := glmconv(t, "plan", "--scheme", "w4a8", dir)
	{
		hub.Reset()
		cmd := exec.Command("glmconv", "plan", "--scheme", "w4a8", "hf://org/glm-5")
		cmd.Env = append(os.Environ(), hub.Env(t.TempDir())...)
		start := time.Now()
		out, most := peak(t, cmd)
		took := time.Since(start)
		require.True(t, cmd.ProcessState.Success(), "%s", out)
		said := string(out)
		if note, rest, ok := strings.Cut(said, "\n"); ok && strings.HasPrefix(note, "note: reading") {
			said = rest
		}
		same := strings.NewReplacer("hf://org/glm-5@"+hub.Commit, "DIR", "hf://org/glm-5", "DIR", dir, "DIR", "GLM-5", "NAME", "glm-5@"+hub.Commit, "NAME")
		assert.Equal(t, same.Replace(want), same.Replace(said))
		resolves := hub.Count(func(r fakes.Request) bool { return strings.Contains(r.Path, "/resolve/") })
		t.Logf("%v, %d requests of which %d resolve, %.1f MB, peak %d MiB", took.Round(10*time.Millisecond), len(hub.Log()), resolves, float64(hub.Sent())/1e6, most>>20)
		assert.LessOrEqual(t, len(hub.Log()), 600)
		assert.LessOrEqual(t, 5*resolves, 3000, "five plans in the window of an anonymous client")
		assert.LessOrEqual(t, hub.Sent(), int64(16e6))
		assert.Less(t, most, int64(150e6))
	}
}

// TestRates measures conversions of a remote source, and of a local one into a
// bucket, beside bare clients, in turn. It runs where GLMCONV_RATES is set.
func TestRates(t *testing.T) {
	if os.Getenv("GLMCONV_RATES") == "" {
		t.Skip("SKIPPED: rates are measured with GLMCONV_RATES=1, on a machine that does nothing else")
	}
	p, err := synth.NewPlan(synth.Options{Config: glm45(2048, 10944, 1408, 12, 128), Seed: 11, ShardBytes: 160 << 20})
	require.NoError(t, err)
	src := filepath.Join(t.TempDir(), "source")
	require.NoError(t, p.Write(t.Context(), src))
	hub := fakehub.NewDir(t, "org/rates", src, true)
	for _, e := range hub.Env(t.TempDir()) {
		k, v, _ := strings.Cut(e, "=")
		t.Setenv(k, v)
	}
	run := func(args ...string) (rate float64, most int64) {
		cmd := exec.Command("glmconv", append([]string{"quantize", "--progress", "none"}, args...)...)
		cmd.Env = os.Environ()
		start := time.Now()
		out, most := peak(t, cmd)
		require.True(t, cmd.ProcessState.Success(), "%s", out)
		return float64(p.Bytes) / time.Since(start).Seconds() / 1e6, most
	}
	best := func(n int, f func() float64) (out float64) {
		for range n {
			out = max(out, f())
		}
		return out
	}
	for _, total := range []int64{0, 200e6} {
		hub.Lock()
		hub.Total = total
		hub.Unlock()
		hub.Reset()
		bare := best(2, func() float64 { return download(t, "hf://org/rates", p.Bytes) })
		twice := float64(hub.Sent()) / float64(2*p.Bytes)
		hub.Reset()
		remote := best(2, func() float64 {
			rate, most := run("--scheme", "w8a8", "--max-memory", "1GiB", "hf://org/rates", filepath.Join(t.TempDir(), "dst"))
			assert.Less(t, most, int64(1<<30))
			return rate
		})
		t.Logf("source of %.2f GB, server's ceiling %d MB/s: bare client %.0f MB/s, quantize --scheme w8a8 %.0f MB/s, %.2f of it; bytes sent by source bytes %.2f, %.2f", float64(p.Bytes)/1e9, total/1e6, bare, remote, remote/bare,
			twice, float64(hub.Sent())/float64(2*p.Bytes))
	}
	hub.Lock()
	hub.Total = 0
	hub.Unlock()
	_, most := run("--scheme", "w8a8", "--connections", "64", "--max-memory", "4GiB", "hf://org/rates", filepath.Join(t.TempDir(), "dst"))
	t.Logf("64 connections, --max-memory 4GiB: peak %d MiB", most>>20)
	assert.Less(t, most, int64(4<<30))
	local := best(2, func() float64 { r, _ := run("--scheme", "w8a8", src, filepath.Join(t.TempDir(), "dst")); return r })
	t.Logf("from the disk: %.0f MB/s", local)

	s := fakes3.New(t, "bucket", nil)
	s.Light = true
	for _, e := range s.Env() {
		k, v, _ := strings.Cut(e, "=")
		t.Setenv(k, v)
	}
	up := best(2, func() float64 { return sendAll(t, src, p.Bytes) })
	result := int64(0)
	copied := best(2, func() float64 {
		clear(s.Objects)
		rate, _ := run("--scheme", "fp8", src, "s3://bucket/result")
		result = 0
		for _, data := range s.Objects {
			result += int64(len(data))
		}
		return rate * float64(result) / float64(p.Bytes)
	})
	folder := best(2, func() float64 {
		rate, _ := run("--scheme", "fp8", src, filepath.Join(t.TempDir(), "dst"))
		return rate * float64(result) / float64(p.Bytes)
	})
	t.Logf("bare upload of files %.0f MB/s, quantize --scheme fp8 writes %.0f MB/s into the bucket, %.0f MB/s into a folder", up, copied, folder)
}

// download reads and hashes all shards, eight at a time, and returns MB/s.
func download(t *testing.T, address string, bytes int64) float64 {
	start := time.Now()
	s, err := reach.Open(t.Context(), address, reach.Options{})
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	list, err := s.List(t.Context())
	require.NoError(t, err)
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(2)
	for _, e := range list {
		if strings.HasSuffix(e.Name, ".safetensors") {
			g.Go(func() error { return readAll(ctx, s, e) })
		}
	}
	require.NoError(t, g.Wait())
	for _, e := range list {
		if strings.HasSuffix(e.Name, ".safetensors") {
			require.Equal(t, "sha256", s.Checked(e.Name))
		}
	}
	return float64(bytes) / time.Since(start).Seconds() / 1e6
}

func readAll(ctx context.Context, s *reach.Source, e source.Entry) error {
	f, err := s.Open(ctx, e.Name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	p := make([]byte, 4<<20)
	for off := int64(0); off < e.Size; off += int64(len(p)) {
		p = p[:min(int64(len(p)), e.Size-off)]
		n := 16 // the header is read by itself: whatever is not a header starts elsewhere
		if off == 0 && len(p) > n {
			if _, err := f.ReadAt(ctx, p[n:], int64(n)); err != nil {
				return err
			}
			continue
		}
		if _, err := f.ReadAt(ctx, p, off); err != nil {
			return err
		}
	}
	return nil
}

// sendAll writes all files by the client that results are written with, hashing
// them, and returns MB/s.
func sendAll(t *testing.T, dir string, bytes int64) float64 {
	start := time.Now()
	b, err := reach.OpenBucket(t.Context(), "s3://bucket/bare", reach.Options{}, reach.BucketOptions{Fingerprint: start.String()})
	require.NoError(t, err)
	defer func() { _ = b.Close() }()
	shards, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	require.NoError(t, err)
	g := errgroup.Group{}
	g.SetLimit(2)
	for _, path := range shards {
		g.Go(func() error { return putFile(b, path, b.Name()+"/"+filepath.Base(path)) })
	}
	require.NoError(t, g.Wait())
	return float64(bytes) / time.Since(start).Seconds() / 1e6
}

func putFile(b *reach.Bucket, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(to), fsx.TempName(filepath.Base(to)))
	out, err := b.Create(temp)
	if err != nil {
		return err
	}
	if err := out.Preallocate(st.Size()); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, io.TeeReader(in, sha256.New()), make([]byte, 1<<20)); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return b.Rename(temp, to)
}
