// Package progress shows how far a long job is: a bar on a terminal, a line
// every ten seconds in a log, JSON lines for programs, or nothing.
//
// All of it goes to the writer given (standard error in the command), never to
// standard output, which belongs to results. A job reports the bytes done so
// far and, as detail, what it is working on; the reporter decides how often
// that is worth showing.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/glmconv/glmconv/internal/safetext"
)

// Mode is the value of --progress.
type Mode string

// The modes. Auto is a bar on a terminal and lines elsewhere.
const (
	Auto Mode = "auto"
	Bar  Mode = "bar"
	Line Mode = "line"
	JSON Mode = "json"
	None Mode = "none"
)

// Reporter receives progress. Its methods may be called from any goroutine.
type Reporter interface {
	// Update says that done of total bytes are finished and what is at work.
	Update(done, total int64, detail string)
	// Close ends the display, leaving the terminal on a fresh line.
	Close()
}

// New returns a reporter of the given mode for a job called verb (for example
// "quantize"). terminal tells whether w is an interactive terminal; it decides
// what Auto means.
func New(w io.Writer, mode Mode, verb string, terminal bool) (Reporter, error) {
	if mode == Auto || mode == "" {
		mode = Line
		if terminal {
			mode = Bar
		}
	}
	now := time.Now
	switch mode {
	case Bar:
		return &bar{w: w, verb: verb}, nil
	case Line:
		return &lines{w: w, verb: verb, every: 10 * time.Second, now: now, start: now(), last: now()}, nil
	case JSON:
		return &jsonLines{enc: json.NewEncoder(w), verb: verb, every: time.Second, now: now, start: now()}, nil
	case None:
		return none{}, nil
	}
	return nil, fmt.Errorf("unknown progress mode %q (auto, bar, line, json, none)", mode)
}

type none struct{}

func (none) Update(int64, int64, string) {}
func (none) Close()                      {}

// bar wraps schollz/progressbar. It is created at the first update, when the
// total is known.
type bar struct {
	mu   sync.Mutex
	w    io.Writer
	verb string
	pb   *progressbar.ProgressBar
}

func (b *bar) Update(done, total int64, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pb == nil {
		b.pb = progressbar.NewOptions64(total, progressbar.OptionSetWriter(b.w), progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription(b.verb), progressbar.OptionThrottle(200*time.Millisecond),
			progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
	}
	b.pb.Describe(b.verb + " " + safetext.Line(detail))
	_ = b.pb.Set64(done) // a display that fails must not stop the work
}

func (b *bar) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pb != nil {
		_ = b.pb.Exit()
		fmt.Fprintln(b.w)
	}
}

type lines struct {
	mu          sync.Mutex
	w           io.Writer
	verb        string
	every       time.Duration
	now         func() time.Time
	start, last time.Time
}

func (l *lines) Update(done, total int64, detail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.now()
	if t.Sub(l.last) < l.every {
		return
	}
	l.last = t
	rate, left := estimate(done, total, t.Sub(l.start))
	fmt.Fprintf(l.w, "%s %s %s/%s %s/s %s left  %s\n", l.verb, percent(done, total), Bytes(done), Bytes(total), Bytes(rate), left, safetext.Line(detail))
}

func (l *lines) Close() {}

type jsonLines struct {
	mu          sync.Mutex
	enc         *json.Encoder
	verb        string
	every       time.Duration
	now         func() time.Time
	start, last time.Time
}

// record is one JSON line; times are in seconds, rate in bytes per second.
type record struct {
	Job     string  `json:"job"`
	Done    int64   `json:"done"`
	Total   int64   `json:"total"`
	Rate    int64   `json:"rate"`
	Elapsed float64 `json:"elapsed"`
	Detail  string  `json:"detail,omitempty"`
}

func (j *jsonLines) Update(done, total int64, detail string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.now()
	if t.Sub(j.last) < j.every && done != total {
		return
	}
	j.last = t
	rate, _ := estimate(done, total, t.Sub(j.start))
	_ = j.enc.Encode(record{j.verb, done, total, rate, t.Sub(j.start).Seconds(), safetext.Line(detail)})
}

func (j *jsonLines) Close() {}

func estimate(done, total int64, elapsed time.Duration) (rate int64, left time.Duration) {
	s := elapsed.Seconds()
	if s <= 0 || done <= 0 {
		return 0, 0
	}
	r := float64(done) / s
	return int64(r), time.Duration(float64(total-done) / r * float64(time.Second)).Round(time.Second)
}

func percent(done, total int64) string {
	if total <= 0 {
		return "  0%"
	}
	return fmt.Sprintf("%3d%%", done*100/total)
}
