// Package fakes holds what the servers of tests have in common: a log of what was
// asked, faults by rule, latency and a ceiling on the rate. The servers listen on
// loopback alone.
//
// [fakehub.New] is a Hugging Face compatible hub with its data host,
// [fakescope.New] ModelScope, [fakes3.New] an object store.
package fakes

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is what goes wrong with an answer.
type Fault string

// The faults. All but Flip are noticed by a client without a hash.
const (
	None       Fault = ""
	Reset      Fault = "reset before the answer"
	Cut        Fault = "reset in the body"
	TooMany    Fault = "429 with RateLimit"
	TooLong    Fault = "429 for an hour"
	Down       Fault = "503"
	Expired    Fault = "403 expired"
	Whole      Fault = "200 for a range"
	WrongRange Fault = "wrong Content-Range"
	Stall      Fault = "stall"
	Flip       Fault = "a flipped bit"
	HTML       Fault = "a login page"
	Lost       Fault = "done, and the answer lost" // of what writes
)

// Request is one request as the log keeps it.
type Request struct {
	N      int // from 1, over all hosts
	Host   string
	Method string
	Path   string
	Query  string
	Range  string
	Auth   string
	Status int
}

// Rules say how the servers behave. They may be changed between requests under
// Lock.
type Rules struct {
	sync.Mutex
	Fail    func(Request) Fault // nil: nothing fails
	Latency time.Duration       // before each answer
	Rate    int64               // bytes a second of each body, 0: no limit
	Total   int64               // bytes a second of all files of the disk together, 0: no limit

	log  []Request
	sent int64     // bytes of files
	next time.Time // when the next bytes of them may go
	quit chan struct{}
}

// NewRules returns rules under which nothing fails.
func NewRules() *Rules { return &Rules{quit: make(chan struct{})} }

// Stop ends the requests that hang.
func (r *Rules) Stop() {
	r.Lock()
	defer r.Unlock()
	select {
	case <-r.quit:
	default:
		close(r.quit)
	}
}

// Log returns what was asked so far.
func (r *Rules) Log() []Request {
	r.Lock()
	defer r.Unlock()
	return append([]Request(nil), r.log...)
}

// Sent returns how many bytes of files were sent so far.
func (r *Rules) Sent() int64 {
	r.Lock()
	defer r.Unlock()
	return r.sent
}

// Count returns how many requests so far a filter accepts.
func (r *Rules) Count(accept func(Request) bool) (n int) {
	for _, q := range r.Log() {
		if accept(q) {
			n++
		}
	}
	return n
}

// Reset forgets the log.
func (r *Rules) Reset() {
	r.Lock()
	defer r.Unlock()
	r.log, r.sent = nil, 0
}

// Handle wraps a handler of the named host: it keeps the log, waits and lets
// requests fail. What concerns a body is left to Send.
func (r *Rules) Handle(host string, h func(w http.ResponseWriter, q *http.Request, f Fault)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.Lock()
		entry := Request{N: len(r.log) + 1, Host: host, Method: q.Method, Path: q.URL.Path, Query: q.URL.RawQuery, Range: q.Header.Get("Range"), Auth: q.Header.Get("Authorization")}
		fault, latency := None, r.Latency
		if r.Fail != nil {
			fault = r.Fail(entry)
		}
		r.log = append(r.log, entry)
		r.Unlock()
		time.Sleep(latency)
		switch fault {
		case Reset:
			panic(http.ErrAbortHandler)
		case TooMany:
			w.Header().Set("RateLimit", `"resolvers";r=0;t=0`)
			w.WriteHeader(http.StatusTooManyRequests)
		case TooLong:
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		case Down:
			w.WriteHeader(http.StatusServiceUnavailable)
		case HTML:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, "<html>please log in</html>")
		case Stall:
			w.(http.Flusher).Flush()
			select {
			case <-r.quit:
			case <-q.Context().Done():
			}
			panic(http.ErrAbortHandler)
		default:
			h(w, q, fault)
		}
	})
}

// Send answers with a file, or the range of it that is asked for.
func (r *Rules) Send(w http.ResponseWriter, q *http.Request, data []byte, f Fault) {
	start, end, ranged := int64(0), int64(len(data)), false
	if h := q.Header.Get("Range"); h != "" && f != Whole {
		from, to, _ := strings.Cut(strings.TrimPrefix(h, "bytes="), "-")
		start, _ = strconv.ParseInt(from, 10, 64)
		if n, err := strconv.ParseInt(to, 10, 64); err == nil {
			end = min(end, n+1)
		}
		if start >= int64(len(data)) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", len(data)))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		ranged = true
	}
	body := data[start:end]
	if f == Flip && len(body) > 0 {
		body = append([]byte(nil), body...)
		body[len(body)/2] ^= 1
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Accept-Ranges", "bytes")
	switch {
	case f == WrongRange:
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start+1, end, len(data)))
		w.WriteHeader(http.StatusPartialContent)
	case ranged:
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
	}
	if q.Method == http.MethodHead {
		return
	}
	if f == Cut {
		_, _ = w.Write(body[:len(body)/2])
		panic(http.ErrAbortHandler)
	}
	r.Lock()
	rate := r.Rate
	r.sent += int64(len(body))
	r.Unlock()
	for len(body) > 0 {
		n := len(body)
		if rate > 0 {
			n = min(n, 64<<10)
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
		}
		if _, err := w.Write(body[:n]); err != nil {
			return
		}
		body = body[n:]
	}
}

// SendFile answers with a file of the disk, or the range of it that is asked for:
// sent by the kernel where no rate is set. It has no faults.
func (r *Rules) SendFile(w http.ResponseWriter, q *http.Request, path string, size int64) {
	f, err := os.Open(path)
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	defer f.Close()
	start, end, status := int64(0), size, http.StatusOK
	if from, to, ok := strings.Cut(strings.TrimPrefix(q.Header.Get("Range"), "bytes="), "-"); ok {
		start, _ = strconv.ParseInt(from, 10, 64)
		if n, err := strconv.ParseInt(to, 10, 64); err == nil {
			end = min(size, n+1)
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, size))
		status = http.StatusPartialContent
	}
	w.Header().Set("Content-Length", strconv.FormatInt(end-start, 10))
	w.WriteHeader(status)
	r.Lock()
	r.sent += end - start
	r.Unlock()
	if _, err := f.Seek(start, io.SeekStart); err != nil || q.Method == http.MethodHead {
		return
	}
	for left := end - start; left > 0; {
		n := left
		if wait := r.share(); wait > 0 {
			n = min(n, 512<<10)
			time.Sleep(time.Until(r.turn(n, wait)))
		}
		if _, err := io.CopyN(w, f, n); err != nil {
			return
		}
		left -= n
	}
}

// share returns the ceiling on the rate of all bodies together, 0 for none.
func (r *Rules) share() int64 {
	r.Lock()
	defer r.Unlock()
	return r.Total
}

// turn returns when n further bytes may be sent.
func (r *Rules) turn(n, rate int64) time.Time {
	r.Lock()
	defer r.Unlock()
	if now := time.Now(); r.next.Before(now) {
		r.next = now
	}
	at := r.next
	r.next = at.Add(time.Duration(n) * time.Second / time.Duration(rate))
	return at
}
