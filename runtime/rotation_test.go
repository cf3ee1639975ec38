package runtime

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/safetensors"
)

// withRotation is a checkpoint with one more tensor, rot.weight.
type withRotation struct {
	*safetensors.Checkpoint
	info safetensors.Info
	data []byte
}

func (w *withRotation) Tensors() []safetensors.Info { return append(w.Checkpoint.Tensors(), w.info) }

func (w *withRotation) Info(name string) (safetensors.Info, bool) {
	if name == w.info.Name {
		return w.info, true
	}
	return w.Checkpoint.Info(name)
}

func (w *withRotation) ReadAt(t safetensors.Info, off int64, p []byte) error {
	if t.Name == w.info.Name {
		copy(p, w.data[off:])
		return nil
	}
	return w.Checkpoint.ReadAt(t, off, p)
}

// TestRotationIsInFrontOfTheDraft: a permutation as rot.weight gives the draft
// the permuted state, and nothing else changes.
func TestRotationIsInFrontOfTheDraft(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm5")
	ckpt, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer func() { _ = ckpt.Close() }()
	plain, err := Load(dir, Options{})
	require.NoError(t, err)
	defer func() { _ = plain.Close() }()
	cfg := plain.Config()
	h := cfg.HiddenSize
	w := &withRotation{Checkpoint: ckpt, data: make([]byte, 2*h*h)}
	w.info = safetensors.Info{Name: rotationName, DType: safetensors.BF16, Shape: []int64{int64(h), int64(h)}, Size: int64(len(w.data)), File: "rot.safetensors"}
	order := rand.New(rand.NewPCG(1, 2)).Perm(h)
	for i, j := range order { // row i picks element j
		w.data[2*(i*h+j)], w.data[2*(i*h+j)+1] = 0x80, 0x3f
	}
	p, err := NewResident(cfg, w)
	require.NoError(t, err)
	turned, err := New(cfg, p, Options{})
	require.NoError(t, err)

	ids := []int{5, 9, 77}
	x := make([]float32, len(ids)*h)
	for i := range x {
		x[i] = float32(i%17) - 8
	}
	permuted := make([]float32, len(x))
	for r := range ids {
		for i, j := range order {
			permuted[r*h+i] = x[r*h+j]
		}
	}
	step := func(m *Model, x []float32) []float32 {
		mtp, err := m.MTP()
		require.NoError(t, err)
		_, g, err := mtp.Step(t.Context(), ids, append([]float32(nil), x...), []Span{{N: len(ids), Cache: new(LayerCache)}}, nil)
		require.NoError(t, err)
		return g
	}
	assert.Equal(t, step(plain, permuted), step(turned, x))
	assert.NotEqual(t, step(plain, x), step(turned, x))

	w.info.Shape = []int64{int64(h), int64(h) / 2}
	_, err = NewResident(cfg, w)
	require.ErrorIs(t, err, ErrIncomplete)
	assert.Contains(t, err.Error(), rotationName)
}
