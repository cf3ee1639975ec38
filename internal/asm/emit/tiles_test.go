package emit

import (
	"fmt"
	"testing"

	"github.com/mmcloughlin/avo/reg"
)

// TestEncode: the bytes that GNU as gives.
func TestEncode(t *testing.T) {
	for want, got := range map[string][]byte{
		"c4e2784900":     encodeConfig(reg.RAX),
		"c4e27849c0":     encodeRelease(),
		"c4e27b49d0":     encodeZero(2),
		"c4a27b4b041f":   encodeLoad(0, TileRows{reg.RDI, reg.R11, 0}),
		"c4a27b4b4c1f40": encodeLoad(1, TileRows{reg.RDI, reg.R11, 64}),
		"c4827b4b2c0c":   encodeLoad(5, TileRows{reg.R12, reg.R9, 0}),
		"c4827b4b7c1d00": encodeLoad(7, TileRows{reg.R13, reg.R11, 0}),
		"c4a27a4b1419":   encodeStore(2, TileRows{reg.RCX, reg.R11, 0}),
		"c4e24b5ed5":     encodeInt8(2, 5, 6),
		"c4e2425ccc":     encodeBF16(1, 4, 7),
	} {
		if hex := fmt.Sprintf("%x", got); hex != want {
			t.Errorf("got %s, want %s", hex, want)
		}
	}
}
