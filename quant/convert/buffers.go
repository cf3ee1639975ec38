package convert

import "sync"

// buffers recycles what tiles write. There are never more than tiles in flight
// at the same time; a sync.Pool held several times as many.
type buffers struct {
	mu   sync.Mutex
	free [][]byte
}

// get returns n bytes of any content: of the buffers that are free, the one used
// last that is large enough and not wastefully so.
func (l *buffers) get(n int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.free) - 1; i >= 0; i-- {
		if b := l.free[i]; cap(b) >= n && cap(b) <= 2*n {
			l.free = append(l.free[:i], l.free[i+1:]...)
			return b[:n]
		}
	}
	return make([]byte, n)
}

// most is how many free buffers are kept: more than tiles of one size are ever
// in flight.
const most = 64

// put takes a buffer back.
func (l *buffers) put(b []byte) {
	if cap(b) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) == most {
		l.free = append(l.free[:0], l.free[1:]...) // of a size that is no longer asked for
	}
	l.free = append(l.free, b)
}
