package reach

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/reach/s3"
	"github.com/glmconv/glmconv/source"
)

// object describes an object or what looks like a folder.
type object struct {
	name string
	size int64
	dir  bool
}

func (o object) Name() string       { return o.name }
func (o object) Size() int64        { return o.size }
func (o object) ModTime() time.Time { return time.Unix(0, 0) }
func (o object) IsDir() bool        { return o.dir }
func (o object) Sys() any           { return nil }
func (o object) Mode() fs.FileMode {
	if o.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// MkdirAll does nothing: keys have no folders.
func (b *Bucket) MkdirAll(string) error { return nil }

// SyncDir does nothing: an object that is there stays there.
func (b *Bucket) SyncDir(string) error { return nil }

// Append is not possible.
func (b *Bucket) Append(p string) (fsx.File, error) {
	return nil, &fs.PathError{Op: "append", Path: p, Err: errors.ErrUnsupported}
}

// Link is not possible.
func (b *Bucket) Link(_, p string) error {
	return &fs.PathError{Op: "link", Path: p, Err: errors.ErrUnsupported}
}

// dir reports whether a key stands for a folder.
func (b *Bucket) dir(key string) bool {
	return key == strings.TrimSuffix(b.root, "/") || key == b.root || key == b.root+fsx.StateDir
}

// Stat asks for the size of an object.
func (b *Bucket) Stat(p string) (fs.FileInfo, error) {
	key, err := b.key(p)
	if err != nil {
		return nil, err
	}
	if b.dir(key) {
		return object{name: path.Base(key), dir: true}, nil
	}
	if b.ctx.Err() != nil || b.down.Load() { // what a command says at its end
		b.mu.Lock()
		size, ok := b.known[key]
		b.mu.Unlock()
		if !ok {
			return nil, &fs.PathError{Op: "stat", Path: p, Err: fs.ErrNotExist}
		}
		return object{name: path.Base(key), size: size}, nil
	}
	info, err := b.head(b.ctx, key)
	if err != nil {
		return nil, err
	}
	return object{name: path.Base(key), size: info.Size}, nil
}

// head describes an object; fs.ErrNotExist if there is none.
func (b *Bucket) head(ctx context.Context, key string) (info s3.Object, err error) {
	err = b.call(ctx, key, func(ctx context.Context) error {
		info, err = b.s.api.Head(ctx, key)
		return err
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		delete(b.known, key)
		return info, b.failure(err, key)
	}
	b.known[key] = info.Size
	return info, nil
}

// ReadFile reads a small object.
func (b *Bucket) ReadFile(p string) (data []byte, err error) {
	key, err := b.key(p)
	if err != nil {
		return nil, err
	}
	err = b.call(b.ctx, key, func(ctx context.Context) error {
		body, size, _, err := b.s.api.Get(ctx, key, nil)
		if err != nil {
			return err
		}
		defer body.Close()
		if size > fsx.MaxText {
			return &source.Error{Kind: source.ErrRefused, Where: b.where(key), Reason: "has far more bytes than such a file holds"}
		}
		data, err = io.ReadAll(io.LimitReader(body, fsx.MaxText+1))
		if err == nil && size >= 0 && int64(len(data)) != size {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if err != nil {
		return nil, b.failure(err, key)
	}
	b.mu.Lock()
	b.known[key] = int64(len(data))
	b.mu.Unlock()
	return data, nil
}

// ReadDir lists objects. Where they are an unfinished result, uploads that are not
// complete are files of temporary names.
func (b *Bucket) ReadDir(p string) ([]fs.DirEntry, error) {
	key, err := b.key(p)
	if err != nil {
		return nil, err
	}
	prefix := strings.TrimSuffix(key, "/") + "/"
	if prefix == "/" {
		prefix = ""
	}
	var out []fs.DirEntry
	err = b.call(b.ctx, prefix, func(ctx context.Context) error {
		out = nil
		return b.s.api.List(ctx, prefix, func(o s3.Object) bool {
			name, dir := strings.CutSuffix(strings.TrimPrefix(o.Key, prefix), "/")
			if name != "" {
				out = append(out, fs.FileInfoToDirEntry(object{name, o.Size, dir}))
			}
			return true
		})
	})
	if err != nil {
		return nil, b.failure(err, prefix)
	}
	b.mu.Lock()
	for _, e := range out {
		if info, _ := e.Info(); !e.IsDir() {
			b.known[prefix+e.Name()] = info.Size()
		}
	}
	b.mu.Unlock()
	if prefix != b.root || !slices.ContainsFunc(out, func(e fs.DirEntry) bool { return e.Name() == fsx.StateDir }) {
		return out, nil
	}
	uploads, err := b.uploads(b.ctx, prefix)
	if err != nil {
		return nil, err
	}
	for _, u := range uploads {
		if rest := strings.TrimPrefix(u.Key, prefix); !strings.Contains(rest, "/") {
			out = append(out, fs.FileInfoToDirEntry(object{name: fsx.TempName(rest)}))
		}
	}
	return out, nil
}

// Remove deletes an object; of a temporary name the uploads that are behind it.
func (b *Bucket) Remove(p string) error {
	if fsx.IsTemp(p) {
		return b.removeTemp(p)
	}
	key, err := b.key(p)
	if err != nil || b.dir(key) {
		return err
	}
	return b.remove(key)
}

func (b *Bucket) remove(key string) error {
	err := b.call(b.ctx, key, func(ctx context.Context) error {
		return b.s.api.Delete(ctx, key)
	})
	if err != nil {
		return b.failure(err, key)
	}
	b.mu.Lock()
	delete(b.known, key)
	b.mu.Unlock()
	return nil
}

// put writes an object by one request. once leaves what is there, which must be
// the same; fs.ErrExist if it is not.
func (b *Bucket) put(key string, data []byte, once bool) error {
	var condition http.Header
	if once {
		condition = b.absent()
	}
	err := b.call(b.ctx, key, func(ctx context.Context) error { return b.s.api.Put(ctx, key, data, condition) })
	if err != nil && codeOf(err) == "PreconditionFailed" {
		there, err := b.ReadFile(b.name + "/" + strings.TrimPrefix(key, b.root))
		if err != nil {
			return err
		}
		if !bytes.Equal(there, data) {
			return &fs.PathError{Op: "write", Path: b.where(key), Err: fs.ErrExist}
		}
		return nil
	}
	if err != nil {
		return b.failure(err, key)
	}
	b.mu.Lock()
	b.known[key] = int64(len(data))
	b.mu.Unlock()
	return nil
}

// absent is the condition that nothing has a name, if the store takes conditions.
func (b *Bucket) absent() http.Header {
	if b.unsupported {
		return nil
	}
	return s3.Absent
}

// Mount is described at [fsx.Remote].
func (b *Bucket) Mount(string) (unmount func(), err error) {
	s, err := openPrefix(b.ctx, b.s, b.name, b.root)
	if err != nil {
		return nil, err
	}
	release, err := source.Mount(b.ctx, s)
	if err != nil {
		s.stop()
		return nil, err
	}
	return func() { release(); s.stop() }, nil
}

// Begin is described at [fsx.Remote]: it finds out whether the store keeps
// conditions, on an object of the state folder.
func (b *Bucket) Begin(resume bool) (shared bool, err error) {
	b.resume = resume
	key := b.root + fsx.StateDir + "/probe-" + randomName()
	if err := b.put(key, []byte{'1'}, false); err != nil {
		return false, err
	}
	b.started = b.s.c.serverTime()
	err = b.call(b.ctx, key, func(ctx context.Context) error { return b.s.api.Put(ctx, key, []byte{'2'}, s3.Absent) })
	switch {
	case codeOf(err) == "PreconditionFailed":
		shared = true
	case err == nil, codeOf(err) == "NotImplemented", codeOf(err) == "InvalidArgument", codeOf(err) == "InvalidRequest":
		b.unsupported = true
		b.s.c.o.Warn(b.name + " is in a store without conditional writes: only one process may write there")
	default:
		return false, b.failure(err, key)
	}
	return shared, b.remove(key)
}

// Lock is described at [fsx.Remote]. Of the locks that the state folder has, those
// of shards mean something here: uploads that nobody goes on with are ended, and
// one that somebody is at is told.
func (b *Bucket) Lock(p string) (unlock func() error, err error) {
	nothing := func() error { return nil }
	name, ok := strings.CutSuffix(filepath.Base(p), ".lock")
	if !ok || !isShard(name) {
		return nothing, nil
	}
	list, err := b.uploads(b.ctx, b.root+name)
	if err != nil {
		return nil, err
	}
	for _, u := range list {
		if u.Key != b.root+name {
			continue
		}
		now := b.s.c.serverTime()
		active, err := b.lastPart(u)
		if err != nil {
			return nil, err
		}
		before := u.Initiated.Before(b.started)
		switch age := now.Sub(active); {
		case age > stale || b.resume && before:
			if err := b.abort(b.ctx, u.Key, u.ID); err != nil {
				return nil, err
			}
		case before && age < youth && !b.o.Force:
			return nil, &fs.PathError{Op: "lock", Path: b.where(u.Key), Err: fsx.ErrLocked}
		}
	}
	return nothing, nil
}
