package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answers does what the figures read: a folder, a report, and an exit code of its
// verdict.
const answers = `#!/bin/sh
case "$1" in
quantize) for last; do :; done; mkdir "$last"; printf 12345 > "$last/file";;
verify) while [ "$1" != --json ]; do shift; done
  echo '{"tokens": 7, "kl": {"mean": 0.002, "upper95": 0.003}, "flip_rate": 0.25, "logits": {"sequences": 2, "per_token": [0.001, 0.003, 0.002, 0.002]}, "mtp": {"source": {"agreement": [0.5]}, "result": {"agreement": [0.4]}}}' > "$2"; exit 1;;
esac
`

func TestRun(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: what is measured here is a shell script, which Windows does not run")
	}
	dir := t.TempDir()
	command := filepath.Join(dir, "glmconv")
	require.NoError(t, os.WriteFile(command, []byte(answers), 0o755))
	o := options{schemes: "w8a8,w4a16", json: filepath.Join(dir, "out.json"), tokens: 10, calibTokens: 10, command: command, models: []string{"some/model"}}
	var table strings.Builder
	require.NoError(t, run(t.Context(), o, &table))
	assert.Equal(t, 2+4, strings.Count(table.String(), "\n"))
	assert.Contains(t, table.String(), "| model | w4a16 | calibrated | 2.00 | 1.67 | 3.00 | 0.00 ± 0.00 |")
	raw, err := os.ReadFile(o.json)
	require.NoError(t, err)
	var all []figure
	require.NoError(t, json.Unmarshal(raw, &all))
	require.Len(t, all, 4)
	assert.Equal(t, int64(5), all[0].Bytes)
	assert.InDelta(t, 0.4, all[3].Draft, 1e-9)
	assert.True(t, all[3].Calib)
	// Two sequences, differences of 1 and 3: a mean of 2, a standard error of 1.
	diff, se := paired([]float64{2, 3, 5, 6}, []float64{1, 2, 2, 3}, 2)
	assert.InDelta(t, 2, diff, 1e-12)
	assert.InDelta(t, 1, se, 1e-12)

	// 200 positions, all of them 1 nearer: no error of the difference without the worst two.
	a, b := make([]float64, 200), make([]float64, 200)
	for i := range a {
		a[i] = float64(i * i % 17)
		b[i] = a[i] + 1
	}
	diff, se = pairedTrim(a, b, 10)
	assert.InDelta(t, -1, diff, 1e-12)
	assert.InDelta(t, 0, se, 1e-9)
	for i := range 100 { // one half 3 nearer, one no nearer: parts differ
		b[i], b[100+i] = a[i]+3, a[100+i]
	}
	diff, se = pairedTrim(a, b, 10)
	assert.InDelta(t, -1.5, diff, 0.1)
	assert.InDelta(t, 0.5, se, 0.1, "3 and 0 in turn: 1.58 over the root of 10")
	_, se = pairedTrim(a, b[:100], 10)
	assert.Zero(t, se)

	require.NoError(t, os.WriteFile(command, []byte("#!/bin/sh\necho broken >&2; exit 65\n"), 0o755))
	require.ErrorContains(t, run(t.Context(), o, &table), "broken")
}
