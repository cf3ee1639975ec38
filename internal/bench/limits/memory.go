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
	n := 2 * memoryBytes / threads &^ 1023
	src, dst := make([][]byte, threads), make([][]byte, threads)
	for t := range threads {
		src[t], dst[t] = make([]byte, n), make([]byte, n)
		for i := 0; i < n; i += 4096 { // paged in, and not the page of zeros
			src[t][i], dst[t][i] = byte(i>>12), 1
		}
	}
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
// returns GB/s. It is for measurements that take turns with what they are
// compared with.
func NewReader(threads int) func() float64 {
	n := 2 * memoryBytes / threads &^ 1023
	src := make([][]byte, threads)
	for t := range src {
		src[t] = make([]byte, n)
		for i := 0; i < n; i += 4096 {
			src[t][i] = byte(i>>12) | 1
		}
	}
	return func() float64 {
		return Timed(func() float64 {
			return onAll(threads, func(t int) float64 {
				sink(read(src[t]))
				return float64(n)
			})
		})
	}
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
