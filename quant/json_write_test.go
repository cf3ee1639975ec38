package quant

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant/layout"
)

// TestWriteJSON: what is written tensor by tensor is what encoding/json makes of the
// whole plan.
func TestWriteJSON(t *testing.T) {
	s, err := synth.NewPlan(synth.Options{Preset: "glm-4.5-air"})
	require.NoError(t, err)
	for _, test := range []struct {
		scheme Scheme
		o      Options
	}{{layout.W8A8, Options{}}, {layout.W4A16, Options{MTP: layout.MTPDrop}}, {layout.FP8, Options{Ignore: []string{"re:model.layers.0.*"}}}} {
		view, err := layout.NewView(nil, s.Infos(), layout.Hints{})
		require.NoError(t, err)
		p, err := newPlan(s.Config, view, test.scheme, "", test.o)
		require.NoError(t, err)
		p.Items[0].Reason = "quotes \" and \\, <tags> & \u2028, naïve\x01\n\"tensors\": []"
		p.Notes = append(p.Notes, "\n  \"tensors\": []")
		want := p.JSON(1234)
		var text, got bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		require.NoError(t, enc.Encode(want))
		require.NoError(t, p.WriteJSON(&got, 1234, want.Engines))
		require.True(t, text.String() == got.String(), "%s: differs where it should go on with %.200q", test.scheme, text.Bytes()[differs(text.Bytes(), got.Bytes()):])
		assert.Positive(t, len(want.Tensors))
	}
}

func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
