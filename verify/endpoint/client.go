package endpoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// attempts are how often a request is sent when the connection breaks.
const attempts = 3

// client talks to one server.
type client struct {
	base    string // without /v1 and credentials
	http    *http.Client
	key     string
	user    *url.Userinfo
	timeout time.Duration
}

// newClient reads an address.
func newClient(address string, o *Options) (*client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, &Error{Kind: ErrAddress, Reason: "the address of a server is http://HOST:PORT, with or without /v1"}
	}
	c := &client{key: o.Key, user: u.User, timeout: o.Timeout}
	u.User = nil
	c.base = strings.TrimSuffix(strings.TrimSuffix(u.String(), "/"), "/v1")
	t := &http.Transport{MaxIdleConnsPerHost: o.Concurrency, TLSClientConfig: &tls.Config{InsecureSkipVerify: o.Insecure}} //nolint:gosec // asked for
	c.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

// close ends idle connections.
func (c *client) close() { c.http.CloseIdleConnections() }

// answer is what came back.
type answer struct {
	status int
	body   []byte
}

// send sends a request once.
func (c *client) send(ctx context.Context, method, path string, body []byte, header http.Header) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if c.user != nil {
		password, _ := c.user.Password()
		req.SetBasicAuth(c.user.Username(), password)
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxAnswer:
		return nil, c.answered(path, "is larger than 64 MiB", "fewer tokens a place (--top-logprobs), or shorter sequences (--seq-len)")
	}
	return &answer{resp.StatusCode, data}, nil
}

// ask sends a request, again where the connection breaks or the server is busy.
func (c *client) ask(ctx context.Context, method, path string, body any, header http.Header) (*answer, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	for n := 1; ; n++ {
		a, err := c.send(ctx, method, path, data, header)
		var own *Error
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, &own):
			return nil, err
		case err != nil && n >= attempts:
			return nil, &Error{Kind: ErrLost, Where: c.base + path, Reason: "the connection broke: " + plain(err), Advice: "look whether the server is still running, and into its log"}
		case err == nil && a.status != http.StatusServiceUnavailable && a.status != http.StatusTooManyRequests:
			return a, nil
		case err == nil && time.Since(start) > c.timeout:
			return nil, &Error{Kind: ErrNotReady, Where: c.base + path, Reason: fmt.Sprintf("status %d for %s", a.status, c.timeout), Advice: "wait until the server is ready, or give it longer with --timeout"}
		}
		if err := sleep(ctx, min(time.Duration(n)*200*time.Millisecond, 2*time.Second)); err != nil {
			return nil, err
		}
	}
}

// plain is an error of the network without the address, which may hold credentials.
func plain(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// post sends a JSON body and reads the answer into a value. A status of 4xx
// and 5xx is a *refusal.
func (c *client) post(ctx context.Context, path string, body, into any, header http.Header) error {
	a, err := c.ask(ctx, http.MethodPost, path, body, header)
	if err != nil {
		return err
	}
	return c.read(path, a, into)
}

func (c *client) get(ctx context.Context, path string, into any) error {
	a, err := c.ask(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	return c.read(path, a, into)
}

func (c *client) read(path string, a *answer, into any) error {
	switch {
	case a.status >= 300 && a.status < 400:
		return c.answered(path, fmt.Sprintf("is a redirect (status %d), which is not followed", a.status), "give the address that it leads to")
	case a.status != http.StatusOK:
		return &refusal{where: c.base + path, status: a.status, text: message(a.body)}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return c.answered(path, "cannot be read: "+err.Error(), "")
	}
	return nil
}

// answered is an error about an answer.
func (c *client) answered(path, reason, advice string) error {
	return &Error{Kind: ErrAnswer, Where: c.base + path, Reason: "the answer " + reason, Advice: advice}
}

// refusal is an answer with a status that is not 200.
type refusal struct {
	where  string
	status int
	text   string
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: status %d: %s", r.where, r.status, r.text) }

// Unwrap makes a refusal an unexpected answer.
func (r *refusal) Unwrap() error { return ErrAnswer }

// Hint is what the user can do.
func (r *refusal) Hint() string {
	switch r.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "put the API key into the variable that --api-key-env names"
	case http.StatusNotFound:
		return "is it the right address, and the right --model and --endpoint-kind?"
	}
	return ""
}

// message is the text of an error's body.
func message(body []byte) string {
	var e struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	var inner struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &e) == nil {
		switch {
		case json.Unmarshal(e.Error, &inner) == nil && inner.Message != "":
			return inner.Message
		case e.Message != "":
			return e.Message
		case len(e.Error) > 0:
			return string(e.Error)
		case len(e.Detail) > 0:
			return string(e.Detail)
		}
	}
	return string(bytes.TrimSpace(body[:min(len(body), 300)]))
}

// status is the status of a GET, 0 where there was no answer.
func (c *client) status(ctx context.Context, path string) int {
	a, err := c.send(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return 0
	}
	return a.status
}

// ready waits until the server answers, and not with 503.
func (c *client) ready(ctx context.Context) error {
	start := time.Now()
	for n := 1; ; n++ {
		a, err := c.send(ctx, http.MethodGet, "/health", nil, nil)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && a.status != http.StatusServiceUnavailable:
			return nil
		case time.Since(start) > c.timeout:
			why := "it answers with status 503"
			if err != nil {
				why = plain(err)
			}
			return &Error{Kind: ErrNotReady, Where: c.base, Reason: "the server is not ready: " + why, Advice: "start it, or give it longer with --timeout"}
		}
		if err := sleep(ctx, min(time.Duration(n)*100*time.Millisecond, time.Second)); err != nil {
			return err
		}
	}
}
