package reach

import (
	"context"
	"crypto/md5" //nolint:gosec // what entity tags are made of
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/reach/s3"
	"github.com/glmconv/glmconv/source"
)

func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// newUpload begins a multipart upload.
func (b *Bucket) newUpload(key string) (id string, err error) {
	err = b.call(b.ctx, key, func(ctx context.Context) error {
		id, err = b.s.api.NewUpload(ctx, key, http.Header{metaPlan: {b.o.Fingerprint}})
		return err
	})
	if err != nil {
		return "", b.failure(err, key)
	}
	b.mu.Lock()
	b.own[id] = true
	b.mu.Unlock()
	return id, nil
}

// sendPart uploads one part under its SHA-256.
func (b *Bucket) sendPart(key, id string, number int, data []byte) (part s3.Part, s sum, err error) {
	s = sum{sha256.Sum256(data), int64(len(data))}
	err = b.call(b.ctx, key, func(ctx context.Context) (err error) {
		part, err = b.s.api.PutPart(ctx, key, id, number, data, s.sha256)
		return err
	})
	if codeOf(err) == "NoSuchUpload" {
		err = b.taken(key)
	} else if err != nil {
		err = b.failure(err, key)
	}
	return part, s, err
}

// taken says that somebody else has ended an upload of ours.
func (b *Bucket) taken(key string) error {
	return &source.Error{Kind: source.ErrBusy, Where: b.where(key), Reason: "its upload was ended by somebody else: another process has taken up this part of the conversion",
		Advice: "let that process end, and resume if anything is missing then"}
}

// complete makes an object of the parts of an upload, unless there is one of that
// name: then it must have the same bytes, or gives way as under a rename.
func (b *Bucket) complete(u *upload, size int64) error {
	for try := 0; ; try++ {
		err := b.call(b.ctx, u.key, func(ctx context.Context) error {
			return b.s.api.Complete(ctx, u.key, u.id, u.parts, b.absent())
		})
		switch {
		case err == nil:
			return b.confirm(u.key, size)
		case codeOf(err) == "PreconditionFailed" && try < 3:
			same, err := b.holds(u, size)
			if err != nil {
				return err
			}
			if same {
				return b.abandon(u)
			}
			if err := b.remove(u.key); err != nil {
				return err
			}
		case codeOf(err) == "NoSuchUpload": // completed by a request whose answer was lost, or ended by another process
			same, herr := b.holds(u, size)
			if herr != nil || !same {
				return errors.Join(herr, b.taken(u.key))
			}
			return nil
		default:
			return b.failure(err, u.key)
		}
	}
}

// confirm compares the size of a new object.
func (b *Bucket) confirm(key string, size int64) error {
	info, err := b.head(b.ctx, key)
	if err != nil {
		return err
	}
	if info.Size != size {
		return &source.Error{Kind: source.ErrRefused, Where: b.where(key), Reason: fmt.Sprintf("has %d bytes in the store, %d were written", info.Size, size)}
	}
	return nil
}

// holds reports whether the object has the bytes of an upload: by its entity tag,
// else by reading it.
func (b *Bucket) holds(u *upload, size int64) (bool, error) {
	info, err := b.head(b.ctx, u.key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil || info.Size != size:
		return false, err
	}
	if tag := tagOf(u.parts); tag != "" && info.ETag == tag {
		return true, nil
	}
	buf := make([]byte, min(u.part, size))
	f := &file{path: u.key, etag: info.ETag, where: b.where(u.key), Entry: source.Entry{Size: size}}
	for i := int64(0); i*u.part < size; i++ {
		p := buf[:u.sums[i].size]
		if err := b.s.c.fill(b.ctx, b.s, f, p, i*u.part); err != nil {
			return false, err
		}
		if sha256.Sum256(p) != u.sums[i].sha256 {
			return false, nil
		}
	}
	return true, nil
}

// tagOf returns the entity tag that stores give to an object of parts, "" if
// theirs are not made that way.
func tagOf(parts []s3.Part) string {
	h := md5.New() //nolint:gosec // see the import
	for _, p := range parts {
		b, err := hex.DecodeString(p.ETag)
		if err != nil || len(b) != md5.Size {
			return ""
		}
		h.Write(b)
	}
	return fmt.Sprintf("%x-%d", h.Sum(nil), len(parts))
}

// abandon ends an upload of ours, also when the command is being ended.
func (b *Bucket) abandon(u *upload) error {
	ctx, cancel := b.ctx, context.CancelFunc(func() {})
	if b.ctx.Err() != nil || b.down.Load() {
		ctx, cancel = context.WithTimeout(context.WithoutCancel(b.ctx), 5*time.Second)
	}
	defer cancel()
	err := b.abort(ctx, u.key, u.id)
	if b.ctx.Err() != nil {
		return nil // best effort: a resumed run ends it
	}
	return err
}

func (b *Bucket) abort(ctx context.Context, key, id string) error {
	err := b.call(ctx, key, func(ctx context.Context) error { return b.s.api.Abort(ctx, key, id) })
	if err != nil && codeOf(err) != "NoSuchUpload" {
		return b.failure(err, key)
	}
	b.mu.Lock()
	delete(b.own, id)
	b.mu.Unlock()
	return nil
}

// uploads lists the unfinished uploads below a prefix that are not of this process.
func (b *Bucket) uploads(ctx context.Context, prefix string) (out []s3.Upload, err error) {
	key, id := "", ""
	for {
		var page s3.UploadPage
		err := b.call(ctx, prefix, func(ctx context.Context) error {
			page, err = b.s.api.Uploads(ctx, prefix, key, id)
			return err
		})
		if err != nil {
			return nil, b.failure(err, prefix)
		}
		b.mu.Lock()
		for _, u := range page.Uploads {
			if !b.own[u.ID] && strings.HasPrefix(u.Key, prefix) {
				out = append(out, u)
			}
		}
		b.mu.Unlock()
		if !page.More || page.NextKey == "" || page.NextKey == key && page.NextID == id || len(out) > maxListed {
			return out, nil
		}
		key, id = page.NextKey, page.NextID
	}
}

// lastPart returns when an upload was last added to.
func (b *Bucket) lastPart(u s3.Upload) (time.Time, error) {
	last, marker := u.Initiated, 0
	for {
		var page s3.PartPage
		err := b.call(b.ctx, u.Key, func(ctx context.Context) (err error) {
			page, err = b.s.api.Parts(ctx, u.Key, u.ID, marker)
			return err
		})
		if codeOf(err) == "NoSuchUpload" {
			return last, nil
		} else if err != nil {
			return last, b.failure(err, u.Key)
		}
		for _, at := range page.Modified {
			if at.After(last) {
				last = at
			}
		}
		if !page.More || page.Next <= marker {
			return last, nil
		}
		marker = page.Next
	}
}

// removeUploads ends the uploads behind a temporary name.
func (b *Bucket) removeUploads(p string) error {
	dir, base := filepath.Split(p)
	key, err := b.key(dir + finalName(base))
	if err != nil {
		return err
	}
	list, err := b.uploads(b.ctx, key)
	if err != nil {
		return err
	}
	for _, u := range list {
		if u.Key != key {
			continue
		}
		if err := b.abort(b.ctx, key, u.ID); err != nil {
			return err
		}
	}
	return nil
}

var (
	_ io.Writer = (*upload)(nil)
	_ fsx.File  = (*upload)(nil)
)
