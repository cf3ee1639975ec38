package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Config is what a client has to know.
type Config struct {
	Bucket    string
	Endpoint  *url.URL // nil: AWS's, by region
	Region    string   // "": us-east-1, until the store names another one
	Keys      *Keys    // nil: requests are not signed
	Transport http.RoundTripper
	UserAgent string
	Now       func() time.Time // the time that signatures have; nil: time.Now
}

// Client sends requests to one bucket. Several goroutines may use it.
type Client struct {
	o    Config
	sign *signer.Signer

	mu     sync.Mutex
	region string
}

// New returns a client; nothing is asked yet.
func New(o Config) *Client {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	return &Client{o: o, region: o.Region, sign: signer.NewSigner(func(o *signer.SignerOptions) { o.DisableURIPathEscaping = true })}
}

// request is one request before it is signed.
type request struct {
	method string
	key    string // "": the bucket
	query  url.Values
	header http.Header
	body   []byte
	sum    *[sha256.Size]byte // of body, if it is known
}

// maxAnswer bounds an answer in XML. A page of a listing has 1,000 keys of at most
// 1,024 bytes, which XML and the encoding of URLs can make several times longer.
const maxAnswer = 16 << 20

// do sends a request and returns an answer of success, whose body the caller
// closes. A bucket of another region than was thought is asked there, once.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	for try := 0; ; try++ {
		region := c.regionNow()
		res, err := c.send(ctx, r, region)
		if err != nil {
			return nil, err
		}
		if res.StatusCode/100 == 2 {
			return res, nil
		}
		refused := c.refusal(res, r)
		if other := refused.region; try == 0 && other != "" && other != region && c.o.Endpoint == nil {
			c.mu.Lock()
			c.region = other
			c.mu.Unlock()
			continue
		}
		return nil, refused
	}
}

func (c *Client) regionNow() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.region
}

func (c *Client) send(ctx context.Context, r request, region string) (*http.Response, error) {
	var body io.Reader = http.NoBody
	if len(r.body) > 0 {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.address(r, region).String(), body)
	if err != nil {
		return nil, err
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if c.o.UserAgent != "" {
		req.Header.Set("User-Agent", c.o.UserAgent)
	}
	if r.sum == nil {
		sum := sha256.Sum256(r.body)
		r.sum = &sum
	}
	hash := hex.EncodeToString(r.sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	var keys aws.Credentials
	if c.o.Keys != nil {
		if keys, err = c.o.Keys.get(ctx); err != nil {
			return nil, &KeysError{err}
		}
	}
	if keys.AccessKeyID != "" {
		if err := c.sign.SignHTTP(ctx, keys, req, hash, "s3", region, c.o.Now().UTC()); err != nil {
			return nil, err
		}
	}
	return c.o.Transport.RoundTrip(req)
}

// address of a request: the bucket is the first part of the path where a store
// has an endpoint of its own, or a name that no certificate covers; else it is the
// first part of the host's name.
func (c *Client) address(r request, region string) *url.URL {
	u := url.URL{Scheme: "https", Host: "s3." + region + "." + domain(region), RawQuery: strings.ReplaceAll(r.query.Encode(), "+", "%20")}
	path, first := "", "/"+c.o.Bucket
	switch {
	case c.o.Endpoint != nil:
		u.Scheme, u.Host, path = c.o.Endpoint.Scheme, c.o.Endpoint.Host, strings.TrimSuffix(c.o.Endpoint.Path, "/")
	case !strings.Contains(c.o.Bucket, "."):
		u.Host, first = c.o.Bucket+"."+u.Host, ""
	}
	u.Path = path + first + "/" + r.key
	u.RawPath = escape(u.Path)
	return &u
}

// domain is what the names of AWS's services end with in a region.
func domain(region string) string {
	if strings.HasPrefix(region, "cn-") {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// escape writes a path as signatures have it: only letters, digits and -._~/ stay.
func escape(path string) string {
	var b strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// read sends a request and decodes its answer.
func (c *Client) read(ctx context.Context, r request, into any) error {
	res, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if refused := c.refusalIn(res, text, r); refused != nil {
		return refused
	}
	if len(text) > maxAnswer {
		return fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	if err := xml.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer is not the one that belongs to the request: %w", err)
	}
	return nil
}

// plain sends a request whose answer has nothing to read.
func (c *Client) plain(ctx context.Context, r request) (http.Header, error) {
	res, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	return res.Header, err
}
