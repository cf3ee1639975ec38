package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestShow(t *testing.T) {
	var b bytes.Buffer
	figures := []figure{{"memory copy", 10, 1}, {"w8a8 ascend", 2.5, 0.25}}
	require.NoError(t, show(&b, figures, false))
	assert.Contains(t, b.String(), "2.50 GB/s    0.25 of the memory copy")
	b.Reset()
	require.NoError(t, show(&b, figures, true))
	var got struct {
		Schema  string
		Figures []figure
	}
	require.NoError(t, json.Unmarshal(b.Bytes(), &got))
	assert.Equal(t, figures, got.Figures)
}
