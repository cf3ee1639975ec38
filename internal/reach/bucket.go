package reach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/reach/s3"
	"github.com/glmconv/glmconv/source"
)

// Bucket is a prefix of a bucket that a result is written to: an [fsx.FS] whose
// files appear under their names when they are whole, and not before.
//
// A shard is one multipart upload, completed under the condition that nothing has
// its name: what a rename is to a folder. Other files are one request each. Two
// processes that write the same file cost work and nothing else: the first to
// finish wins, and the bytes of the other are compared with what is there.
type Bucket struct {
	ctx  context.Context //nolint:containedctx // of the command that writes
	s    *store
	name string // s3://bucket/prefix
	root string // prefix with its slash, "" for a whole bucket
	o    BucketOptions

	slots chan struct{} // uploads of parts at work

	mu          sync.Mutex
	pending     map[string]*upload // by temporary name
	own         map[string]bool    // ids of this process's uploads
	known       map[string]int64   // sizes of objects by key, for when nobody can be asked
	free        [][]byte           // buffers of parts
	resume      bool
	unsupported bool      // the store takes no conditions
	started     time.Time // by the store's clock

	down atomic.Bool // it was given up
}

// BucketOptions are what a bucket has to know of what is written.
type BucketOptions struct {
	Fingerprint string   // of the plan, kept with each shard
	Once        []string // names of small files of which the first to come stays: relative to the prefix
	Force       bool     // write although another process seems to be at it

	part int64 // bytes of a part (0: partSize)
}

var _ fsx.Remote = (*Bucket)(nil)

const (
	partSize   = 16 << 20
	maxParts   = 9500             // of 10,000
	maxUploads = 4                // parts on their way
	youth      = 10 * time.Minute // an upload with a part younger than this is being written
	stale      = time.Hour        // one without a part for so long is dead
	metaPlan   = "X-Amz-Meta-Glmconv-Plan"
)

// OpenBucket prepares writing below an address s3://BUCKET/PREFIX; nothing is
// asked yet. ctx ends all requests but those that clean up.
func OpenBucket(ctx context.Context, text string, o Options, b BucketOptions) (*Bucket, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	name, err := BucketName(text)
	if err != nil {
		return nil, err
	}
	a, err := parse(text, "")
	if err != nil {
		return nil, err
	}
	if o.Offline {
		return nil, &source.Error{Kind: source.ErrOffline, Where: withoutQuery(text), Reason: "is needed, and the network is switched off"}
	}
	c, err := newClient(o)
	if err != nil {
		return nil, err
	}
	s := &store{c: c, bucket: a.id}
	if err := s.connect(a); err != nil {
		return nil, err
	}
	if b.part == 0 {
		b.part = partSize
	}
	out := &Bucket{ctx: ctx, s: s, name: name, o: b,
		slots: make(chan struct{}, min(o.Connections, maxUploads)), pending: map[string]*upload{}, own: map[string]bool{}, known: map[string]int64{}}
	if a.sub != "" {
		out.root = a.sub + "/"
	}
	return out, nil
}

// BucketName returns the name of an address that results can be written to.
func BucketName(text string) (string, error) {
	a, err := parse(text, "")
	switch {
	case err != nil:
		return "", err
	case a.scheme != "s3":
		return "", &source.Error{Kind: source.ErrLocal, Where: withoutQuery(text), Reason: "cannot be written: a result goes to a folder of the local disk or to s3://BUCKET/PREFIX",
			Advice: "convert into a folder; for a hub, glmconv push afterwards"}
	}
	return strings.TrimSuffix("s3://"+a.id+"/"+a.sub, "/"), nil
}

// Name is the address without its query.
func (b *Bucket) Name() string { return b.name }

// Traffic returns what went over the network so far.
func (b *Bucket) Traffic() Traffic { return b.s.c.traffic() }

// Close ends all connections.
func (b *Bucket) Close() error {
	b.s.c.http.CloseIdleConnections()
	return nil
}

// BucketMemory is what writing takes at most besides what is converted: parts on
// their way, parts that wait for their turn, and parts that are being filled.
func BucketMemory(o Options, workers int) int64 {
	n := o.Connections
	if n == 0 {
		n = 8
	}
	return int64(min(n, maxUploads)+workers+2*max(2, workers/2)) * partSize
}

// Puts returns how many requests write a shard of some size.
func Puts(size int64) int64 {
	p := partOf(size, partSize)
	return (size+p-1)/p + 2
}

// partOf returns the bytes of a part of a file: as few parts as a store allows.
func partOf(size, least int64) int64 {
	if p := (size + maxParts - 1) / maxParts; p > least {
		return (p + 1<<20 - 1) >> 20 << 20
	}
	return least
}

// key returns the key of a path, which may have lost a slash to filepath.Clean.
func (b *Bucket) key(p string) (string, error) {
	rest := strings.TrimPrefix(filepath.ToSlash(p), "s3:")
	rest, ok := strings.CutPrefix(path.Clean("/"+rest)+"/", path.Clean("/"+strings.TrimPrefix(b.name, "s3:"))+"/")
	if !ok {
		return "", &fs.PathError{Op: "write", Path: p, Err: fs.ErrInvalid}
	}
	return b.root + strings.TrimSuffix(rest, "/"), nil
}

// where is what messages call a key.
func (b *Bucket) where(key string) string { return "s3://" + b.s.bucket + "/" + key }

// call tries a request until it succeeds, is refused, or time is up; after that
// every further request has one try, so that a command ends soon. The error is the
// store's own (codeOf) or one for a person.
func (b *Bucket) call(ctx context.Context, key string, do func(ctx context.Context) error) error {
	t := b.s.c.trial(b.where(key))
	ctx = t.in(ctx)
	for {
		if err := b.s.c.patience(ctx, b.s.endpoint.Host); err != nil {
			return err
		}
		err := do(ctx)
		if err == nil || codeOf(err) != "" && !passing(err) {
			return err
		}
		failed := b.s.failed(err, key)
		var st *statusError
		if errors.As(failed, &st) && st.code < http.StatusInternalServerError && st.code != http.StatusTooManyRequests {
			st.code = http.StatusServiceUnavailable // said in the body of a 200, or of bytes that came damaged
		}
		if b.down.Load() {
			return t.final(failed)
		}
		if err := t.again(ctx, failed); err != nil {
			if ctx.Err() == nil {
				b.down.Store(true)
			}
			return err
		}
	}
}

// passing reports whether an answer of the store may be another one next time.
func passing(err error) bool {
	e := refusal(err)
	switch e.Code {
	case "InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "ConditionalRequestConflict", "BadDigest",
		"XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest", "IncompleteBody":
		return true
	}
	return e.Status >= 500 && e.Status != 501 || e.Status == 429 || e.Status == 408
}

// refusal returns what a store answered, nothing for a failed connection.
func refusal(err error) s3.Error {
	var e *s3.Error
	if errors.As(err, &e) {
		return *e
	}
	return s3.Error{}
}

// codeOf returns the code of an answer of the store, "" for a failed connection.
func codeOf(err error) string {
	return refusal(err).Code
}

// failure makes an error of the store one for a person.
func (b *Bucket) failure(err error, key string) error {
	e := refusal(err)
	if e.Status == 0 {
		return err
	}
	out := &source.Error{Kind: source.ErrNetwork, Where: b.where(key), Reason: fmt.Sprintf("the store answers %s (%d)", e.Code, e.Status), Err: err}
	switch e.Code {
	case "NoSuchBucket":
		out.Kind, out.Reason, out.Advice = source.ErrMissing, "the bucket does not exist", "make the bucket first, or look at AWS_ENDPOINT_URL"
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken":
		out.Kind, out.Reason, out.Advice = source.ErrDenied, "may not be written ("+e.Code+")", "look at the credentials: AWS_PROFILE, AWS_ACCESS_KEY_ID"
	case "NoSuchKey":
		return &fs.PathError{Op: "open", Path: b.where(key), Err: fs.ErrNotExist}
	}
	return out
}
