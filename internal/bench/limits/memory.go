package limits

// The names of what Memory measures.
const (
	MemoryCopy   = "memory copy"
	MemoryRead   = "memory read"
	MemoryStream = "memory, read 2 write 1"
)

// memoryBytes is what a thread moves: several times the share it has of any
// cache.
const memoryBytes = 512 << 20

// Memory measures streams over memory on the given number of threads at once,
// each with a share of 1 GiB: a copy (the rate is that of the source), reads,
// and reading two bytes for each byte written past the caches, which is what
// quantising does (the rate is that of the source).
func Memory(threads int) Limits {
	src, dst := pages(threads, 2*memoryBytes/threads), pages(threads, 2*memoryBytes/threads)
	n := len(src[0])
	return Limits{
		measure(MemoryCopy, "GB/s", threads, func(t int) float64 { return float64(copy(dst[t], src[t])) }),
		measure(MemoryRead, "GB/s", threads, func(t int) float64 {
			sink(read(src[t]))
			return float64(n)
		}),
		measure(MemoryStream, "GB/s", threads, func(t int) float64 {
			stream(dst[t][:n/2], src[t])
			return float64(n)
		}),
	}
}

// NewReader returns a function that reads 1 GiB on a number of threads once and
// returns GB/s; NewStreamer one that passes over a buffer of the given size and
// writes half as much. They are for measurements that take turns with what they
// are compared with.
func NewReader(threads int) func() float64 {
	src := pages(threads, 2*memoryBytes/threads)
	return turn(threads, func(t int) float64 {
		sink(read(src[t]))
		return float64(len(src[t]))
	})
}

// NewStreamer is described at NewReader.
func NewStreamer(threads, size int) func() float64 {
	src, dst := pages(threads, size/threads), pages(threads, size/2/threads)
	return turn(threads, func(t int) float64 {
		stream(dst[t], src[t])
		return float64(len(src[t]))
	})
}

// turn returns a function that runs fn once on each thread and returns the rate.
func turn(threads int, fn func(thread int) float64) func() float64 {
	return func() float64 { return Timed(func() float64 { return onAll(threads, fn) }) }
}

// pages is memory for every thread: paged in, and not the page of zeros.
func pages(threads, n int) [][]byte {
	out := make([][]byte, threads)
	for t := range out {
		out[t] = make([]byte, n&^1023)
		for i := 0; i < len(out[t]); i += 4096 {
			out[t][i] = byte(i>>12) | 1
		}
	}
	return out
}

//go:noinline
func sink(uint64) {}

func readGo(p []byte) (x uint64) {
	for i := 0; i+64 <= len(p); i += 64 { // a byte of each line
		x += uint64(p[i])
	}
	return x
}

func streamGo(dst, src []byte) {
	for i := range dst {
		dst[i] = src[2*i] + src[2*i+1]
	}
}
