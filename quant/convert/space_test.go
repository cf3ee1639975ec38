package convert

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
)

// A conversion that the disk cannot hold leaves nothing behind; one that was
// begun before says that it can be resumed.
func TestNoSpace(t *testing.T) {
	was := freeOn
	t.Cleanup(func() { freeOn = was })
	freeOn = func(string) int64 { return 1000 }
	src := open(t, demoModel(t))
	p, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)

	top := t.TempDir()
	dst := filepath.Join(top, "below", "out")
	_, err = Run(context.Background(), p, src, dst, Options{})
	require.ErrorIs(t, err, ErrSpace)
	assert.NoDirExists(t, filepath.Join(top, "below"))
	var ours *quant.Error
	require.ErrorAs(t, err, &ours)
	assert.False(t, ours.Resumable)

	empty := t.TempDir()
	_, err = Run(context.Background(), p, src, empty, Options{})
	require.ErrorIs(t, err, ErrSpace)
	left, err := os.ReadDir(empty)
	require.NoError(t, err)
	assert.Empty(t, left)

	freeOn = was
	ctx, cancel := context.WithCancel(context.Background())
	_, err = Run(ctx, p, src, dst, Options{Progress: func(int64, int64, string) { cancel() }})
	require.ErrorIs(t, err, ErrStopped)
	freeOn = func(string) int64 { return 1000 }
	_, err = Run(context.Background(), p, src, dst, Options{Resume: true})
	require.ErrorIs(t, err, ErrSpace)
	require.ErrorAs(t, err, &ours)
	assert.True(t, ours.Resumable)
	assert.Contains(t, ours.Advice, "resume")
	assert.NotContains(t, ours.Advice, "nothing was written")
}
