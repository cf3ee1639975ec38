package kernel

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNewWorkers(t *testing.T) {
	tests := []struct {
		name    string
		n, want int
	}{
		{"none asked for", 0, runtime.GOMAXPROCS(0)},
		{"negative", -1, runtime.GOMAXPROCS(0)},
		{"one", 1, 1},
		{"more than CPUs", 64, 64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, NewWorkers(tt.n).N)
		})
	}
}
