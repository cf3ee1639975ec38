package reach

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/source"
)

// tokens hands out the bearer token of a store, and gets another before it ends.
type tokens struct {
	c     *client
	fixed string                                           // given by hand: there is no other
	make  func(ctx context.Context) (*http.Request, error) // asks for a token; nil: none is needed
	brief bool                                             // asks this machine's own service, which may not be there

	mu     sync.Mutex
	token  string
	until  time.Time // ask for another then
	denied int       // times in a row that a token was refused
}

// maxDenied is how often a refused token is replaced by another.
const maxDenied = 2

// ready returns a token that holds, "" if none is needed.
func (t *tokens) ready(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.make == nil || t.token != "" && time.Now().Before(t.until) {
		return t.now(), nil
	}
	try := t.c.trial("the token")
	for {
		token, life, err := t.ask(try.in(ctx))
		if err == nil {
			t.token, t.until = token, time.Now().Add(life-min(5*time.Minute, life/2))
			return token, nil
		}
		if t.brief && t.token == "" {
			return "", nil // no such service: what is public can be read
		}
		if err := try.again(ctx, err); err != nil {
			return "", err
		}
	}
}

func (t *tokens) now() string {
	if t.fixed != "" {
		return t.fixed
	}
	return t.token
}

// current is the token that ready returned last.
func (t *tokens) current() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now()
}

// refused reports whether it is worth while to try again with another token.
func (t *tokens) refused(token string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.make == nil || t.denied >= maxDenied {
		return false
	}
	if token == t.token { // else another read has replaced it
		t.token = ""
		t.denied++
		t.c.renewed.Add(1)
	}
	return true
}

func (t *tokens) taken() {
	t.mu.Lock()
	t.denied = 0
	t.mu.Unlock()
}

// ask sends one request for a token. What it sends and gets is in no error.
func (t *tokens) ask(ctx context.Context) (token string, life time.Duration, err error) {
	wait := t.c.o.stall
	if t.brief {
		wait = min(wait, 2*time.Second)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	r, err := t.make(ctx)
	if err != nil {
		return "", 0, err
	}
	r.Header.Set("User-Agent", "glmconv/"+t.c.o.Version)
	t.c.requests.Add(1)
	res, err := t.c.http.Do(r)
	if err != nil {
		return "", 0, &netError{host: r.URL.Host, err: plain(err)}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", 0, &netError{host: r.URL.Host, err: plain(err)}
	}
	t.c.bytes.Add(int64(len(text)))
	if res.StatusCode != http.StatusOK {
		return "", 0, &statusError{url: r.URL, code: denial(res.StatusCode), header: res.Header, hint: "the credentials were not taken: make new ones"}
	}
	var said struct {
		Token string          `json:"access_token"`
		Life  json.RawMessage `json:"expires_in"` // a number, or a number as text
	}
	if err := json.Unmarshal(text, &said); err != nil || said.Token == "" {
		return "", 0, refused(r.URL, "answers with no token")
	}
	seconds, err := strconv.ParseInt(strings.Trim(string(said.Life), `"`), 10, 32)
	if err != nil || seconds < 1 {
		seconds = 600
	}
	return said.Token, time.Duration(seconds) * time.Second, nil
}

// denial makes what a token's server says of wrong credentials (400, as OAuth has
// it) what it means.
func denial(code int) int {
	if code == http.StatusBadRequest {
		return http.StatusUnauthorized
	}
	return code
}

// form is a request for a token as OAuth 2 has it.
func form(ctx context.Context, address string, values url.Values) (*http.Request, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || !safe(u) {
		return nil, &source.Error{Kind: source.ErrAddress, Where: "the credentials", Reason: "name an address for tokens that is not https"}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil, refused(u, "is not an address")
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r, nil
}

// safe reports whether secrets may be sent to an address.
func safe(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname())
}

// secret reads a file of credentials.
func secret(path string) ([]byte, error) {
	raw, err := fsx.ReadRegular(path, 1<<20)
	if err != nil {
		return nil, &source.Error{Kind: source.ErrAddress, Where: path, Reason: "holds no credentials that can be read", Err: err}
	}
	return raw, nil
}

// firmware reports whether a file of this machine's firmware begins with a text.
func firmware(name, text string) bool {
	b, err := os.ReadFile("/sys/class/dmi/id/" + name)
	return err == nil && strings.HasPrefix(string(b), text)
}
