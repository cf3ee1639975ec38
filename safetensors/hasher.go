package safetensors

import (
	"crypto/sha256"
	"encoding/hex"
)

// hasher takes the SHA-256 of a stream in a goroutine of its own: hashing runs
// at about the speed of a good disk, so that it must not wait for one.
type hasher struct {
	work chan run
	sum  chan string
}

// run is a piece of the stream; free, if any, is called once it is hashed.
type run struct {
	p    []byte
	free func()
}

// hashAhead is how many pieces may wait.
const hashAhead = 16

func newHasher() *hasher {
	h := &hasher{work: make(chan run, hashAhead), sum: make(chan string, 1)}
	go func() {
		d := sha256.New()
		for r := range h.work {
			d.Write(r.p)
			if r.free != nil {
				r.free()
			}
		}
		h.sum <- hex.EncodeToString(d.Sum(nil))
	}()
	return h
}

func (h *hasher) add(p []byte, free func()) { h.work <- run{p, free} }

// finish waits for everything added and returns the sum in lower-case
// hexadecimal. It is called once.
func (h *hasher) finish() string {
	close(h.work)
	return <-h.sum
}
