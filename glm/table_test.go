package glm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/safetensors"
)

// presetRows is the table of a published checkpoint as it is stored.
func presetRows(t testing.TB, name string) (*Config, []Tensor) {
	t.Helper()
	p, err := LookupPreset(name)
	require.NoError(t, err)
	cfg, err := ParseConfig(p.JSON)
	require.NoError(t, err)
	var rows []Tensor
	for _, row := range cfg.Table() {
		if p.MTPCopies || !row.Optional {
			rows = append(rows, row)
		}
	}
	return cfg, rows
}

// The figures are those of docs/facts/families.md 1.6.
func TestPublishedSizes(t *testing.T) {
	for _, want := range []struct {
		name    string
		tensors int
		params  int64
	}{
		{"glm-4.5-air", 18329, 110468824832},
		{"glm-4.5", 44691, 358337791296},
		{"glm-4.6", 44689, 356785898816},
		{"glm-4.7", 44689, 356785898816},
		{"glm-4.7-flash", 9703, 31221488576},
		{"glm-5", 59870, 753864139008},
		{"glm-5.1", 59870, 753864139008},
		{"glm-5.2", 59585, 753329940480},
		{"glm-4.5v", 18106, 107710933120},
		{"glm-4.6v", 18106, 107710933120},
	} {
		t.Run(want.name, func(t *testing.T) {
			_, rows := presetRows(t, want.name)
			assert.Len(t, rows, want.tensors)
			sum := int64(0)
			for i := range rows {
				sum += rows[i].Elements()
			}
			assert.Equal(t, want.params, sum)
		})
	}
}

func TestGLM52Shares(t *testing.T) {
	_, rows := presetRows(t, "glm-5.2")
	var mtp, mtpParams, main, f32 int64
	indexers := map[int]bool{}
	for i := range rows {
		r := &rows[i]
		if r.MTP {
			mtp++
			mtpParams += r.Elements()
		} else {
			main += r.Elements()
		}
		if r.DType == safetensors.F32 {
			f32 += r.Elements()
		}
		if r.Role == IndexerK {
			indexers[r.Layer] = true
		}
	}
	assert.EqualValues(t, 791, mtp)
	assert.EqualValues(t, 9952920576, mtpParams)
	assert.EqualValues(t, 743377019904, main)
	assert.EqualValues(t, 19456, f32)
	assert.Len(t, indexers, 22)
	for _, i := range []int{0, 1, 2, 6, 10, 70, 74, 78} {
		assert.True(t, indexers[i], "layer %d", i)
	}
}

func TestVisionShare(t *testing.T) {
	_, rows := presetRows(t, "glm-4.5v")
	n, params := 0, int64(0)
	for i := range rows {
		if rows[i].Role.IsVision() {
			n++
			params += rows[i].Elements()
		}
	}
	assert.Equal(t, 181, n)
	assert.EqualValues(t, 858681856, params)
}
