package progress

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 4100: "4.1 kB", 363_400_000_000: "363.4 GB", 999_990_000_000: "1.00 TB",
		1_510_000_000_000: "1.51 TB"} {
		assert.Equal(t, want, Bytes(n))
	}
	assert.Equal(t, "18,329", Thousands(18329))
	assert.Equal(t, "-1,000", Thousands(-1000))
	assert.Equal(t, "7", Thousands(7))
}

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]int64{"512MiB": 512 << 20, "2GiB": 2 << 30, "4GB": 4e9, "1.5G": 3 << 29, "17": 17, "8 kB": 8000, "0": 0} {
		got, err := ParseBytes(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got, s)
	}
	for _, s := range []string{"", "GiB", "-1", "1e30GiB", "lots"} {
		_, err := ParseBytes(s)
		assert.Error(t, err, s)
	}
}

func TestLinesAreRareAndComplete(t *testing.T) {
	var out bytes.Buffer
	clock := time.Unix(0, 0)
	l := &lines{w: &out, verb: "quantize", every: 10 * time.Second, now: func() time.Time { return clock }, start: clock, last: clock}
	for range 25 {
		clock = clock.Add(time.Second)
		l.Update(clock.Unix()*1e9, 100e9, "layers.3")
	}
	assert.Equal(t, "quantize  10% 10.0 GB/100.0 GB 1.0 GB/s 1m30s left  layers.3\nquantize  20% 20.0 GB/100.0 GB 1.0 GB/s 1m20s left  layers.3\n",
		out.String())
}

func TestModes(t *testing.T) {
	var out bytes.Buffer
	r, err := New(&out, JSON, "verify", false)
	require.NoError(t, err)
	r.Update(5, 10, "x")
	r.Update(10, 10, "")
	r.Close()
	dec := json.NewDecoder(&out)
	var last record
	for dec.More() {
		require.NoError(t, dec.Decode(&last))
	}
	assert.Equal(t, int64(10), last.Done)

	out.Reset()
	r, err = New(&out, None, "verify", true)
	require.NoError(t, err)
	r.Update(1, 2, "")
	r.Close()
	assert.Empty(t, out.String())

	r, err = New(&out, Auto, "verify", true)
	require.NoError(t, err)
	r.Update(1, 2, "layers.0")
	r.Close()
	assert.Contains(t, out.String(), "verify")

	_, err = New(&out, "loud", "verify", false)
	assert.ErrorContains(t, err, "loud")
}
