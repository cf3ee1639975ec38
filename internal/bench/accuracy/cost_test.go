package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// TestClasses: widths, bases and rows are those of a dense and a sparse layer with
// 16 experts.
func TestClasses(t *testing.T) {
	plan, err := synth.NewPlan(synth.Options{Preset: "glm-4.5-air", Layers: 2, Experts: 16, Vocab: 4096, MTP: synth.MTPNone})
	require.NoError(t, err)
	var got []class
	for _, c := range classes(plan.Config) {
		got = append(got, *c)
	}
	const attention, gates = 96*128 + 2*8*128, 2 * 1408
	assert.ElementsMatch(t, []class{
		{4096, 2, 2 * attention},
		{4096, 1, 2 * 10944},
		{4096, 17, 17 * gates},
		{12288, 2, 2 * 4096},
		{10944, 1, 4096},
		{1408, 17, 17 * 4096},
	}, got)
	times, err := (&class{cols: 128, bases: 1}).times(40, 8, &kernel.Workers{N: 1})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, times[2], 0.0)
	_, err = (&class{cols: 192, bases: 1}).times(40, 8, &kernel.Workers{N: 1})
	require.NoError(t, err, "a width that is no multiple of 128, as 10944")
}
