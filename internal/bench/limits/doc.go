// Package limits measures what a machine can do, so that a benchmark can say
// how close it came: memory streams, multiply-accumulate loops, SHA-256 and
// files. A figure of the project is quoted as its ratio to a limit that was
// taken in the same run: the rates themselves change from machine to machine
// and, on a shared one, from minute to minute.
//
//	l := limits.Memory(2)          // two threads
//	l = append(l, limits.Compute(2)...)
//	fmt.Println(l.Rate("memory read"), "GB/s")
//
// All rates are medians. Memory and files count GB (10^9 bytes) a second,
// multiply-accumulates GMAC a second; one MAC is two of the operations that
// others count. The loops are generated (internal/asm/limits); without them
// (another architecture, the purego tag, GLMCONV_CPU=purego) plain Go reads and
// copies memory, and there are no multiply-accumulate limits.
package limits
