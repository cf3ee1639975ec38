// Package cpu chooses which kernels a process runs: plain Go, or twins with the
// vector instructions of the processor. The choice is made once, at start-up.
//
// GLMCONV_CPU=purego|avx2|avx512|amx on amd64, purego|neon on arm64, asks for a
// path; the purego build tag takes the others out of the program. A path that
// the processor does not have is an error (Problem), never a crash in the middle
// of the work.
package cpu

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Level is a set of kernels. A processor that has a level has those below it
// that its architecture has at all.
type Level int

// The levels.
const (
	PureGo Level = iota // plain Go on every architecture
	NEON                // arm64: the vector instructions that every such processor has
	AVX2                // amd64: AVX2, FMA, F16C, BMI2
	AVX512              // amd64: AVX-512 F, BW, DQ, VL and VNNI besides
	AMX                 // amd64, Linux: AMX tiles, int8 and BF16, and AVX-512 VBMI besides
)

// String returns the level as GLMCONV_CPU names it.
func (l Level) String() string { return [...]string{"purego", "neon", "avx2", "avx512", "amx"}[l] }

var current, problem = choose(os.Getenv("GLMCONV_CPU"), Levels(), best(os.Getenv("GLMCONV_CPU")))

// Current returns the level in use.
func Current() Level { return current }

// Levels returns the levels that GLMCONV_CPU can name on this architecture, from
// PureGo up.
func Levels() []Level { return levels(runtime.GOARCH) }

func levels(arch string) []Level {
	switch arch {
	case "amd64":
		return []Level{PureGo, AVX2, AVX512, AMX}
	case "arm64":
		return []Level{PureGo, NEON}
	}
	return []Level{PureGo}
}

// Problem reports a GLMCONV_CPU that cannot be had; Current is then the best
// level that can.
func Problem() error { return problem }

// choose returns the level for what the environment asks, among all of an
// architecture, and the machine has.
func choose(want string, all []Level, have Level) (Level, error) {
	if want == "" {
		return have, nil
	}
	var names []string
	for _, l := range all {
		names = append(names, l.String())
		if l.String() != want {
			continue
		}
		if l > have {
			return have, fmt.Errorf("GLMCONV_CPU=%s: this program on this processor has %s at most", want, have)
		}
		return l, nil
	}
	return have, fmt.Errorf("GLMCONV_CPU=%s: the choices are %s", want, strings.Join(names, ", "))
}
