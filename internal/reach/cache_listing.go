package reach

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/source"
)

// Beside shards a cache keeps what says what they are, in DIR/sources: listings, under
// a hash of their address, headers and small files, under one of name, size and
// version. Each begins with the SHA-256 of the rest, so that one which was not
// written whole, or has changed since, is none. With them a source that was read can
// be read again without a network.

// keep writes one of these files. A cache that cannot be written is no error.
func (k *cache) keep(name string, data []byte) {
	if k == nil {
		return
	}
	dir := filepath.Join(k.dir, "sources")
	sum := sha256.Sum256(data)
	out, err := newIn(dir)
	if err == nil {
		_, err = out.Write(append(sum[:], data...))
		err = errors.Join(err, out.Close())
		if err == nil {
			err = os.Rename(out.Name(), filepath.Join(dir, name))
		}
		if err != nil {
			_ = os.Remove(out.Name())
		}
	}
	if err != nil {
		k.once.Do(func() { k.warn(fmt.Sprintf("the cache %s is not filled any further: %v", k.dir, err)) })
	}
}

// newIn makes a file of a name of its own in a folder, which is made as well. Others
// may read it, as they may read blocks.
func newIn(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // what is published
		return nil, err
	}
	return os.OpenFile(filepath.Join(dir, fmt.Sprintf("%s%016x", newPrefix, rand.Uint64())), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // the same
}

// newPrefix begins the name of a file that is being written.
const newPrefix = ".new-"

// sweep removes files that were begun by processes that ended before they had them.
func (k *cache) sweep() {
	dir := filepath.Join(k.dir, "sources")
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		st, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), newPrefix) && time.Since(st.ModTime()) > abandoned {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// kept reads a file that keep has written, nil if there is none.
func (k *cache) kept(name string) []byte {
	if k == nil {
		return nil
	}
	raw, err := fsx.ReadRegular(filepath.Join(k.dir, "sources", name), maxIndex+sha256.Size)
	if err != nil || len(raw) < sha256.Size {
		return nil
	}
	if sum := sha256.Sum256(raw[sha256.Size:]); !bytes.Equal(sum[:], raw[:sha256.Size]) {
		return nil
	}
	return raw[sha256.Size:]
}

// smallName is what a small file, or the head of a shard, is kept under; "" for one
// that cannot be told from others of its name.
func (f *file) smallName(kind string) string {
	if f.SHA256+f.git+f.Version == "" {
		return ""
	}
	return hashName(kind, f.where, fmt.Sprint(f.Size), f.SHA256, f.git, f.Version)
}

func hashName(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// keepSmall and keptSmall are keep and kept for small files and heads.
func (k *cache) keepSmall(f *file, kind string, data []byte) {
	if name := f.smallName(kind); name != "" {
		k.keep(name, data)
	}
}

func (k *cache) keptSmall(f *file, kind string, n int64) []byte {
	name := f.smallName(kind)
	if name == "" {
		return nil
	}
	if data := k.kept(name); int64(len(data)) == n {
		return data
	}
	return nil
}

// dropHeader forgets the header of a shard.
func (k *cache) dropHeader(f *file) {
	for _, kind := range []string{headKind, restKind} {
		if name := f.smallName(kind); name != "" {
			_ = os.Remove(filepath.Join(k.dir, "sources", name))
		}
	}
}

// Distrust has a cache forget the headers of a source: one of them could not be
// read, and what has come may be damaged. Without a network nothing else is there.
func (s *Source) Distrust() {
	if s.cache == nil || s.c.o.Offline {
		return
	}
	for _, f := range s.files {
		if isShard(f.Name) {
			s.cache.dropHeader(f)
		}
	}
}

// listed is what the listing of an address is kept under.
func (o *Options) listed(a address) string {
	at, rev := o.first(endpointsOf[a.scheme]...), a.rev
	switch {
	case a.url != nil:
		at = a.url.String()
	case a.scheme == "hf":
		at = o.hubBase()
		if rev == "" {
			rev = "main"
		}
	}
	return hashName("listing", a.scheme, at, a.id, rev, a.sub)
}

// endpointsOf are the variables that lead an address to another host.
var endpointsOf = map[string][]string{
	"ms": {"MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN", "MODELSCOPE_PREFER_AI_SITE"},
	"s3": {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"},
	"gs": {"STORAGE_EMULATOR_HOST"},
	"az": {"AZURE_STORAGE_SERVICE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"},
}

// keepListing writes the listing of a source, under the revision that was asked for
// and under its commit.
func (s *Source) keepListing(a address) {
	if s.cache == nil {
		return
	}
	out := Saved{Name: s.name, Commit: s.commit}
	for _, f := range s.files {
		out.Files = append(out.Files, SavedFile{Name: f.Name, Size: f.Size, SHA256: f.SHA256, Version: f.Version, Path: f.path, Git: f.git})
	}
	data, err := json.Marshal(out)
	if err != nil {
		return
	}
	s.cache.sweep()
	s.cache.keep(s.c.o.listed(a), data)
	if s.commit != "" && a.rev != s.commit {
		a.rev = s.commit
		s.cache.keep(s.c.o.listed(a), data)
	}
}

// keptListing returns the listing of an address that the cache has, nil if it has
// none.
func (o *Options) keptListing(a address) *Saved {
	if o.Cache == "" {
		return nil
	}
	var out Saved
	if json.Unmarshal((&cache{dir: o.Cache}).kept(o.listed(a)), &out) != nil {
		return nil
	}
	return &out
}

// openKept opens a source that is read from the cache alone.
func openKept(ctx context.Context, c *client, a address) (*Source, error) {
	saved := c.o.keptListing(a)
	if saved == nil {
		return nil, &source.Error{Kind: source.ErrOffline, Where: a.shown(), Reason: fmt.Sprintf("is not in the cache %s, and the network is switched off", c.o.Cache),
			Advice: "run the command once without --offline"}
	}
	var files []*file
	for _, x := range saved.Files {
		if flat(x.Name) {
			files = append(files, &file{Entry: source.Entry{Name: x.Name, Size: x.Size, SHA256: x.SHA256, Version: x.Version}, path: x.Path, git: x.Git, located: &located{}})
		}
	}
	s, err := newSource(ctx, c, nowhere{c.o.Cache}, saved.Name, files)
	if err != nil {
		return nil, err
	}
	if s.commit = saved.Commit; s.commit == "" {
		c.o.Warn(saved.Name + " is read from the cache, as it was listed when it was read last: nobody has asked whether it changed")
	}
	return s, nil
}

// shown is the address for messages.
func (a address) shown() string {
	if a.url != nil {
		return shown(a.url)
	}
	text := a.scheme + "://" + a.id
	if a.rev != "" {
		text += "@" + a.rev
	}
	if a.sub != "" {
		text += "/" + a.sub
	}
	return text
}

// nowhere is the getter of a source without a network.
type nowhere struct{ cache string }

func (n nowhere) get(_ context.Context, f *file, _, _ int64) (io.ReadCloser, error) {
	return nil, &source.Error{Kind: source.ErrOffline, Where: f.where, Reason: fmt.Sprintf("is needed and is not whole in the cache %s, and the network is switched off", n.cache),
		Advice: "run the command once without --offline"}
}
