package limits

import "crypto/sha256"

// The names of what Compute measures. An AVX2 processor does not have the
// AVX-512 and AMX ones.
const (
	FMAAVX2    = "float32 multiply-accumulate, AVX2"
	FMAAVX512  = "float32 multiply-accumulate, AVX-512"
	Int8AVX2   = "int8 multiply-accumulate, AVX2 (VPMADDUBSW, VPMADDWD, VPADDD)"
	ExactAVX2  = "int8 multiply-accumulate, AVX2, exact for all codes (VPMADDWD, VPADDD)"
	Int8AVX512 = "int8 multiply-accumulate, AVX-512 (VPDPBUSD)"
	Int8AMX    = "int8 multiply-accumulate, AMX (TDPBSSD)"
	BF16AMX    = "BF16 multiply-accumulate, AMX (TDPBF16PS)"
	SHA256     = "SHA-256"
)

// loop is a multiply-accumulate loop: run does n turns of macs each.
type loop struct {
	name string
	macs int
	run  func(n int)
}

// Compute measures the multiply-accumulate loops that this processor runs, on
// the given number of threads at once, and SHA-256.
func Compute(threads int) (out Limits) {
	const turns = 1 << 20
	for _, l := range loops() {
		l.run(turns)
		out = append(out, measure(l.name, "GMAC/s", threads, func(int) float64 {
			l.run(turns)
			return float64(turns) * float64(l.macs)
		}))
	}
	buf := make([]byte, 8<<20)
	return append(out, measure(SHA256, "GB/s", threads, func(int) float64 {
		sha256.Sum256(buf)
		return float64(len(buf))
	}))
}

// Peak runs the multiply-accumulate loop of a name on a number of threads for
// about a number of turns each and returns GMAC/s, 0 if this processor does not
// have the loop. It is for measurements that take turns with what they are
// compared with.
func Peak(name string, threads, turns int) float64 {
	for _, l := range loops() {
		if l.name == name {
			return turn(threads, func(int) float64 {
				l.run(turns)
				return float64(turns) * float64(l.macs)
			})()
		}
	}
	return 0
}
