package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/source"
)

// netError is a connection that failed.
type netError struct {
	host string
	err  error
}

func (e *netError) Error() string {
	if e.host == "" {
		return e.err.Error()
	}
	return e.host + ": " + e.err.Error()
}

func (e *netError) Unwrap() error { return e.err }

// statusError is an answer that is none.
type statusError struct {
	url    *url.URL
	code   int
	header http.Header
	text   string // what the server says of it
	said   string // its code of an error, where it answers in XML
	hint   string // what to do where it may not be read
}

func (e *statusError) Error() string { return fmt.Sprintf("%s: %d", shown(e.url), e.code) }

// wrongAnswer is an answer that is not of what was asked.
type wrongAnswer struct {
	url    *url.URL
	reason string
}

func (e *wrongAnswer) Error() string { return shown(e.url) + ": " + e.reason }

const (
	maxWait  = 30 * time.Second // between two tries
	maxAsked = 10 * time.Minute // that a server may ask to wait, and what of it does not count as time without a byte
	maxWrong = 3                // wrong answers in a row
)

// trial counts the tries of one read.
type trial struct {
	c     *client
	where string
	tries int // since the last byte
	wrong int // wrong answers in a row
	since time.Time
	asked time.Duration // waited since then because a server asked for it, by this read alone
}

func (c *client) trial(where string) *trial {
	t := &trial{c: c, where: where}
	t.progress()
	return t
}

// progress notes that bytes came.
func (t *trial) progress() {
	t.tries, t.wrong, t.since, t.asked = 0, 0, time.Now(), 0
}

type trialKey struct{}

// in returns a context in which what is waited for hosts counts for the trial.
func (t *trial) in(ctx context.Context) context.Context { return context.WithValue(ctx, trialKey{}, t) }

// again waits until the next try, or returns why there is none.
func (t *trial) again(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var own *source.Error
	if errors.As(err, &own) {
		return err
	}
	wait, asked := t.delay(err)
	if wait < 0 {
		return t.final(err)
	}
	var wrong *wrongAnswer
	if errors.As(err, &wrong) {
		if t.wrong++; t.wrong >= maxWrong {
			return &source.Error{Kind: source.ErrRefused, Where: shown(wrong.url), Reason: wrong.reason}
		}
	}
	t.tries++
	if asked > maxAsked {
		t.c.holdOff(hostOf(err), asked, false)
		return busyFor(t.where, asked)
	}
	told := asked > 0 || limited(err)
	if host := hostOf(err); host != "" && (told || t.tries > 1) {
		t.c.holdOff(host, wait, told)
	}
	if told {
		t.asked += wait
	}
	if time.Since(t.since)+wait-min(t.asked, t.c.o.allowed) > t.c.o.RetryFor {
		return t.final(err)
	}
	t.c.retries.Add(1)
	return t.c.sleep(ctx, wait)
}

// delay returns how long to wait before the next try, negative for never, and
// how much of it the server asked for.
func (t *trial) delay(err error) (wait, asked time.Duration) {
	wait = time.Duration(rand.Int64N(int64(min(maxWait, t.c.o.backoff<<min(t.tries, 20))) + 1)) //nolint:gosec // jitter
	var ne *netError                                                                            // also of an answer after which another address or token is worth a try
	var st *statusError
	if errors.As(err, &ne) || !errors.As(err, &st) {
		return wait, 0
	}
	switch st.code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if asked = retryAfter(st.header); asked > 0 {
			wait = asked
		}
		return wait, asked
	}
	return -1, 0
}

// final says that there are no more tries.
func (t *trial) final(err error) error {
	var st *statusError
	if errors.As(err, &st) {
		switch st.code {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return &source.Error{Kind: source.ErrBusy, Where: shown(st.url), Reason: fmt.Sprintf("the server answers %d for too long", st.code),
				Advice: "repeat the command later, or with fewer connections"}
		}
		return st.meaning()
	}
	advice := "once the cause is gone, repeat the command"
	reason := err.Error()
	if strings.Contains(reason, "certificate") {
		advice = "give the certificate of your organisation (--ca-file FILE)"
	}
	return &source.Error{Kind: source.ErrNetwork, Where: t.where, Reason: fmt.Sprintf("could not be read after %d tries: %s", t.tries+1, reason), Advice: advice}
}

// meaning turns an answer into the error that a person sees.
func (e *statusError) meaning() error {
	out := &source.Error{Where: shown(e.url), Kind: source.ErrRefused, Reason: fmt.Sprintf("the server answers %d", e.code)}
	code := e.header.Get("X-Error-Code")
	switch {
	case slices.Contains(noSuchBucket, e.said):
		out.Kind, out.Reason, out.Advice = source.ErrMissing, "the bucket or container does not exist ("+e.said+")", "look at the address"
	case e.hint != "" && (e.code == http.StatusUnauthorized || e.code == http.StatusForbidden || e.code == http.StatusConflict):
		out.Kind, out.Reason, out.Advice = source.ErrDenied, "may not be read", e.hint
		if e.said != "" {
			out.Reason += " (" + e.said + ")"
		}
	case e.hint != "" && e.code == http.StatusNotFound:
		out.Kind, out.Reason, out.Advice = source.ErrMissing, "not found, or private", e.hint
	case code == "GatedRepo":
		out.Kind, out.Reason = source.ErrDenied, "needs the owner's approval"
		out.Advice = "open its page, accept the conditions, then set HF_TOKEN"
	case strings.HasPrefix(e.text, "Invalid credentials"), strings.Contains(e.text, "expired token"):
		out.Kind, out.Reason, out.Advice = source.ErrDenied, "the token is not valid or has expired", "hf auth login, or another HF_TOKEN"
	case code == "RevisionNotFound":
		out.Kind, out.Reason = source.ErrMissing, "has no such revision"
	case code == "EntryNotFound":
		out.Kind, out.Reason = source.ErrMissing, "has no such file"
	case e.code == http.StatusForbidden && strings.Contains(e.text, "denied"):
		out.Kind, out.Reason, out.Advice = source.ErrDenied, "access denied", "look at the credentials: HF_TOKEN, MODELSCOPE_API_TOKEN, AWS_PROFILE"
	case code == "RepoNotFound", e.code == http.StatusUnauthorized, e.code == http.StatusForbidden, e.code == http.StatusNotFound:
		out.Kind, out.Reason = source.ErrMissing, "not found, or private"
		out.Advice = "look at the name; for a private repository set HF_TOKEN (or MODELSCOPE_API_TOKEN, or AWS_PROFILE)"
	case e.code == http.StatusRequestedRangeNotSatisfiable, e.code == http.StatusPreconditionFailed:
		out.Kind, out.Reason = source.ErrChanged, "changed after it was listed"
	}
	for _, h := range []string{"X-Request-Id", "X-Amzn-Trace-Id", "X-Amz-Cf-Id", "X-Guploader-Uploadid", "X-Ms-Request-Id"} {
		if id := e.header.Get(h); id != "" && len(id) < 100 {
			out.Reason += " (request " + id + ")"
			break
		}
	}
	return out
}

// noSuchBucket are the codes of stores for a bucket or container that is not there.
var noSuchBucket = []string{"NoSuchBucket", "ContainerNotFound"}

var resets = lazy.Regexp(`(?:^|[;,])\s*t=(\d+)`)

// retryAfter returns how long a server asks to wait: the rest of its window, or
// Retry-After in seconds or as a date.
func retryAfter(h http.Header) time.Duration {
	if limit := h.Get("RateLimit"); strings.Contains(limit, "r=0") {
		if m := resets().FindStringSubmatch(limit); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				return time.Duration(n+1) * time.Second
			}
		}
	}
	after := h.Get("Retry-After")
	if n, err := strconv.ParseInt(after, 10, 32); err == nil && n >= 0 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(after); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

func hostOf(err error) string {
	var ne *netError
	var st *statusError
	switch {
	case errors.As(err, &ne):
		return ne.host
	case errors.As(err, &st):
		return st.url.Host
	}
	return ""
}

// limited reports whether a server says that it is asked too often.
func limited(err error) bool {
	var st *statusError
	return errors.As(err, &st) && st.code == http.StatusTooManyRequests
}

// hold is how long a host is left alone.
type hold struct {
	until time.Time
	told  time.Time // as far as the host asked for it, which is no time without an answer
}

// holdOff keeps all connections away from a host for some time; told that the
// host asked for it.
func (c *client) holdOff(host string, d time.Duration, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, until := c.hosts[host], time.Now().Add(d)
	if until.After(h.until) {
		h.until = until
	}
	if told && until.After(h.told) {
		h.told = until
	}
	c.hosts[host] = h
}

// patience waits until a host may be asked; a host that has asked for longer than is
// waited is not asked again.
func (c *client) patience(ctx context.Context, host string) error {
	c.mu.Lock()
	h := c.hosts[host]
	c.mu.Unlock()
	wait := time.Until(h.until)
	if wait > maxAsked { // as another read was told
		return busyFor(host, wait)
	}
	if t, ok := ctx.Value(trialKey{}).(*trial); ok {
		t.asked += max(0, time.Until(h.told))
	}
	return c.sleep(ctx, wait)
}

// waitedWith counts what has passed since start, while another read asked a host, as
// far as the host asked for it.
func (c *client) waitedWith(ctx context.Context, host string, start time.Time) {
	c.mu.Lock()
	told := c.hosts[host].told
	c.mu.Unlock()
	if now := time.Now(); told.After(now) {
		told = now
	}
	if t, ok := ctx.Value(trialKey{}).(*trial); ok {
		t.asked += max(0, told.Sub(start))
	}
}

// busyFor says that a server asks to wait for longer than is waited.
func busyFor(where string, d time.Duration) error {
	return &source.Error{Kind: source.ErrBusy, Where: where, Reason: fmt.Sprintf("the server asks to wait %s", d.Round(time.Second)), Advice: "repeat the command after that time"}
}

func (c *client) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	start := time.Now()
	defer func() { c.waited.Add(int64(time.Since(start))) }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// getter opens a stream of a file from an offset on: n bytes, or to its end.
// Errors are netError, statusError, wrongAnswer, or final.
type getter interface {
	get(ctx context.Context, f *file, off, n int64) (io.ReadCloser, error)
}

// fill reads len(p) bytes of a file at off, through as many answers as it takes.
func (c *client) fill(ctx context.Context, g getter, f *file, p []byte, off int64) error {
	t := c.trial(f.where)
	ctx = t.in(ctx)
	for got := 0; got < len(p); {
		n, err := c.attempt(ctx, g, f, p[got:], off+int64(got))
		if got += n; n > 0 {
			t.progress()
		}
		if err == nil {
			continue
		}
		if err := t.again(ctx, err); err != nil {
			return err
		}
	}
	return nil
}

var errStalled = errors.New("no byte came for too long")

// attempt reads what one answer has of p; one that stalls is given up.
func (c *client) attempt(ctx context.Context, g getter, f *file, p []byte, off int64) (got int, err error) {
	body, err := g.get(ctx, f, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer body.Close()
	for got < len(p) {
		n, err := body.Read(p[got:])
		got += n
		if got == len(p) {
			break
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return got, &netError{host: f.host(), err: plain(err)}
		}
	}
	return got, nil
}
