package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/testkit"
)

// TestWeightsAreFetchedOnce: what check --weights reads beside the weights themselves
// lies where they are read at that time.
func TestWeightsAreFetchedOnce(t *testing.T) {
	src := bigSource(t)
	hub := fakehub.NewDir(t, "org/big", src, true)
	for _, e := range hub.Env(t.TempDir()) {
		k, v, _ := strings.Cut(e, "=")
		t.Setenv(k, v)
	}
	code, out, errs := glmconv(t, "check", "--weights", "--workers", "1", "--connections", "2", "--progress", "none", "hf://org/big")
	require.Zero(t, code, "%s%s", out, errs)
	size := testkit.Size(t, src)
	t.Logf("%.2f of the source fetched", float64(hub.Sent())/float64(size))
	assert.Less(t, hub.Sent(), size*6/5)
}
