package verify_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/rotation"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/source"
)

// mounted is the rotated view of a reference model in F32, as a folder.
func mounted(t *testing.T, dir string, drafts bool) string {
	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	set, err := rotation.New(cfg, drafts)
	require.NoError(t, err)
	view, err := rotation.NewView(dir, set, rotation.ViewOptions{Wide: func(string) bool { return true }, Copies: true, Matrix: true})
	require.NoError(t, err)
	unmount, err := source.Mount(t.Context(), view)
	require.NoError(t, err)
	t.Cleanup(func() { unmount(); _ = view.Close() })
	return view.Name()
}

// logitsOf are the logits of a model over ids, and those of its first drafts.
func logitsOf(t *testing.T, dir string, ids []int, drafts bool) (z, draft []float32) {
	m, err := runtime.Load(dir, runtime.Options{})
	require.NoError(t, err)
	defer func() { _ = m.Close() }()
	s := m.NewSession()
	h, err := s.Forward(t.Context(), ids)
	require.NoError(t, err)
	z, err = m.Logits(t.Context(), h)
	require.NoError(t, err)
	if !drafts {
		return z, nil
	}
	mtp, err := m.MTP()
	require.NoError(t, err)
	n := len(ids) - 1
	_, g, err := mtp.Step(t.Context(), ids[1:], h[:n*m.Config().HiddenSize], []runtime.Span{{N: n, Cache: new(runtime.LayerCache)}}, nil)
	require.NoError(t, err)
	draft, err = mtp.Logits(t.Context(), g)
	require.NoError(t, err)
	return z, draft
}

// deviation is the largest difference over the standard deviation of a.
func deviation(a, b []float32) float64 {
	var sum, sq, worst float64
	for i, v := range a {
		sum += float64(v)
		sq += float64(v) * float64(v)
		worst = max(worst, math.Abs(float64(b[i])-float64(v)))
	}
	n := float64(len(a))
	return worst / math.Sqrt(sq/n-(sum/n)*(sum/n))
}

// rotatable is a reference model, or a published one cut down.
func rotatable(t *testing.T, name string) string {
	if strings.HasPrefix(name, "nano-") {
		return testkit.Shared(t, "reference/"+name)
	}
	return shrunk(t, name)
}

// TestRotationKeepsTheModel: logits and drafts of every family that allows it
// are those of the source, up to rounding of F32.
func TestRotationKeepsTheModel(t *testing.T) {
	ids := []int{1, 7, 43, 99, 250, 12, 300, 5, 77, 81, 9, 64, 201, 31, 2, 18}
	for name, drafts := range map[string]bool{"nano-glm5": true, "nano-glm52": true, "nano-glm5-outliers": true, "nano-glm4moe": false, "nano-glm4moe-outliers": false,
		"glm-4.6": false, "glm-4.7-flash": false, "glm-5.3": true} {
		t.Run(name, func(t *testing.T) {
			dir := rotatable(t, name)
			view := mounted(t, dir, drafts)
			z, d := logitsOf(t, dir, ids, drafts)
			y, e := logitsOf(t, view, ids, drafts)
			assert.Less(t, deviation(z, y), 1e-4)
			if drafts {
				assert.Less(t, deviation(d, e), 2e-2, "rot.weight is BF16")
			}
		})
	}
}
