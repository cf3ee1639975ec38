package reach

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/source"
)

// TestAskedToWait: time that a server asks to wait is no time without an answer,
// up to a limit; other failures are.
func TestAskedToWait(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "hub"}
	answer := func(code int, after string) error {
		return &statusError{url: u, code: code, header: http.Header{"Retry-After": {after}}}
	}
	for _, test := range []struct {
		name    string
		err     error
		allowed time.Duration
		waits   bool
	}{
		{"too many requests, longer than the patience for silence", answer(429, "300"), 10 * time.Minute, true},
		{"too many requests without a time", answer(429, ""), 10 * time.Minute, true},
		{"unavailable for a time that is named", answer(503, "300"), 10 * time.Minute, true},
		{"unavailable", answer(503, ""), 10 * time.Minute, false},
		{"longer than is allowed", answer(429, "300"), time.Minute, false},
		{"longer than ever", answer(429, "1000"), time.Hour, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := Options{Getenv: func(string) string { return "" }, RetryFor: 20 * time.Millisecond, allowed: test.allowed}
			require.NoError(t, o.defaults())
			c, err := newClient(o)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			x := c.trial("hf://org/nano")
			x.tries = 10 // the longest own wait
			if test.waits {
				assert.ErrorIs(t, x.again(ctx, test.err), context.DeadlineExceeded)
			} else {
				x.since = time.Now().Add(-time.Second) // whatever its own wait is
				assert.ErrorIs(t, x.again(ctx, test.err), source.ErrBusy)
			}
		})
	}
}

// TestListedHashes: hashes of a listing name files of the cache, so that they are
// taken as hashes or not at all.
func TestListedHashes(t *testing.T) {
	o := Options{Getenv: func(string) string { return "" }, Cache: t.TempDir()}
	require.NoError(t, o.defaults())
	c, err := newClient(o)
	require.NoError(t, err)
	right := strings.Repeat("0123456789abcdef", 4)
	for name, sum := range map[string]string{"a path": strings.Repeat("./", 22) + "../../home/x/.ssh/id", "upper case": strings.ToUpper(right), "short": "abc"} {
		_, err := newSource(t.Context(), c, nil, "hf://org/nano", []*file{{Entry: source.Entry{Name: "model.safetensors", Size: 1, SHA256: sum}}})
		assert.ErrorIs(t, err, source.ErrRefused, name)
	}
	s, err := newSource(t.Context(), c, nil, "hf://org/nano", []*file{{Entry: source.Entry{Name: "model.safetensors", Size: 1, SHA256: right}}})
	require.NoError(t, err)
	s.stop()
}

// TestRefusedForAnHour: a host that asks for an hour is not asked again meanwhile, by
// no other read: one of a block that was fetched ahead hears it first.
func TestRefusedForAnHour(t *testing.T) {
	o := quick()
	require.NoError(t, o.defaults())
	c, err := newClient(o)
	require.NoError(t, err)
	require.NoError(t, c.patience(t.Context(), "hub"))
	refusal := &statusError{url: &url.URL{Scheme: "https", Host: "hub"}, code: 429, header: http.Header{"Retry-After": {"3600"}}}
	require.ErrorIs(t, c.trial("ahead").again(t.Context(), refusal), source.ErrBusy)
	start := time.Now()
	require.ErrorIs(t, c.patience(t.Context(), "hub"), source.ErrBusy)
	assert.Less(t, time.Since(start), time.Second, "nor waited for")
	assert.NoError(t, c.patience(t.Context(), "data"))
}

// TestAskedToWaitByAnother: what one host asks to wait is no time that another may
// be silent for; a read that waits for both has it counted.
func TestAskedToWaitByAnother(t *testing.T) {
	o := Options{Getenv: func(string) string { return "" }, RetryFor: time.Second, allowed: time.Hour}
	require.NoError(t, o.defaults())
	c, err := newClient(o)
	require.NoError(t, err)
	silent := &netError{host: "data", err: errStalled}
	x, y := c.trial("hf://org/nano"), c.trial("hf://org/nano")
	x.since, y.since = time.Now().Add(-2*time.Second), time.Now().Add(-2*time.Second)
	c.holdOff("hub", 5*time.Minute, true)
	assert.ErrorIs(t, x.again(t.Context(), silent), source.ErrNetwork, "the hub's wait is not that of the host of the data")

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.patience(y.in(ctx), "hub"), context.DeadlineExceeded)
	assert.ErrorIs(t, y.again(ctx, silent), context.DeadlineExceeded, "goes on: it has waited for the hub")
	own := c.trial("hf://org/nano")
	own.since = time.Now().Add(-2 * time.Second)
	c.holdOff("other", 5*time.Minute, false)
	require.ErrorIs(t, c.patience(own.in(ctx), "other"), context.DeadlineExceeded)
	assert.ErrorIs(t, own.again(t.Context(), silent), source.ErrNetwork, "nobody has asked for that wait")
}

// TestAskedWhileAnotherAsks: a read that waits for the address which another asks for
// waits for the host, too; where the host has asked for no wait, it does not.
func TestAskedWhileAnotherAsks(t *testing.T) {
	for name, told := range map[string]bool{"asked for": true, "of our own": false} {
		t.Run(name, func(t *testing.T) {
			o := Options{Getenv: func(string) string { return "" }, RetryFor: 200 * time.Millisecond, allowed: time.Hour, backoff: time.Millisecond}
			require.NoError(t, o.defaults())
			c, err := newClient(o)
			require.NoError(t, err)
			hub := &url.URL{Scheme: "https", Host: "hub"}
			w := &web{c: c, endpoint: hub, address: func(*file) string { return "https://hub/x" }}
			answered := make(chan struct{})
			f := &file{located: &located{asking: answered}}
			c.holdOff("hub", 300*time.Millisecond, told)
			time.AfterFunc(300*time.Millisecond, func() {
				f.located.mu.Lock()
				f.located.url, f.located.asking = &url.URL{Scheme: "https", Host: "data"}, nil
				f.located.mu.Unlock()
				close(answered)
			})
			x := c.trial("hf://org/nano")
			u, _, err := w.locate(x.in(t.Context()), f, 0, 1)
			require.NoError(t, err)
			require.Equal(t, "data", u.Host)
			err = x.again(t.Context(), &netError{host: "data", err: errStalled})
			if told {
				require.NoError(t, err, "goes on")
			} else {
				require.ErrorIs(t, err, source.ErrNetwork, "it was silent for too long")
			}
		})
	}
}
