//go:build !purego

package cpu

import "golang.org/x/sys/cpu"

// best returns what the processor has. The system is not asked for AMX if
// something else is wanted.
func best(want string) Level {
	x := cpu.X86
	switch {
	case !x.HasAVX2 || !x.HasFMA || !x.HasF16C || !x.HasBMI2:
		return PureGo
	case !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL || !x.HasAVX512VNNI:
		return AVX2
	case !x.HasAVX512VBMI || !x.HasAMXTile || !x.HasAMXInt8 || !x.HasAMXBF16:
		return AVX512
	}
	if want != "" && want != AMX.String() || !permitTiles() {
		return AVX512
	}
	return AMX
}
