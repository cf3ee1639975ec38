package serve

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/chat"
	"github.com/glmconv/glmconv/runtime/media"
	"github.com/glmconv/glmconv/runtime/vision"
)

// MediaOptions say which pictures and clips a client may name. The zero value
// fetches from any public address and opens no local file.
type MediaOptions struct {
	NoRemote  bool     // http and https are refused
	Domains   []string // none: all; else these alone, at any port
	Private   bool     // addresses of private networks and of this machine are dialled too
	LocalRoot string   // folder that file:// may name; "": none
}

// Bounds of one request.
const (
	maxPictures     = 64
	maxClips        = 4
	maxPictureBytes = 32 << 20
	maxClipBytes    = 256 << 20
)

func unprocessable(format string, args ...any) error {
	return &apiError{http.StatusUnprocessableEntity, fmt.Sprintf(format, args...), "messages"}
}

// look fetches what a conversation shows, expands its placeholders and runs the
// vision tower. Without pictures and clips it returns ids and nil.
func (s *Server) look(ctx context.Context, q *chatRequest, ids []int) ([]int, *runtime.Media, error) {
	if len(q.items) == 0 {
		return ids, nil, nil
	}
	if s.vision == nil {
		return nil, nil, bad("messages", "the model has no vision tower: it cannot look at pictures and clips")
	}
	clips := 0
	for _, it := range q.items {
		if it.Video {
			clips++
		}
	}
	if clips > maxClips || len(q.items)-clips > maxPictures {
		return nil, nil, bad("messages", "at most %d pictures and %d clips", maxPictures, maxClips)
	}
	dir, err := os.MkdirTemp("", "glmconv-media-")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	list, err := s.collect(ctx, dir, q.items)
	if err != nil {
		return nil, nil, err
	}
	select { // one at a time: the tower takes all cores
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	cfg := s.model.Config()
	in, err := s.vision.Prepare(cfg, ids, list, s.tok.EncodeOrdinary)
	if err != nil {
		return nil, nil, bad("messages", "%v", err)
	}
	if len(in.IDs) > s.o.MaxLen {
		return nil, nil, bad("messages", "the context is %d tokens: the prompt with its pictures has %d", s.o.MaxLen, len(in.IDs))
	}
	m, err := s.model.Media(ctx, in)
	return in.IDs, m, err
}

// collect fetches and prepares the items, one at a time.
func (s *Server) collect(ctx context.Context, dir string, items []chat.Item) (list []*vision.Patches, err error) {
	for i, it := range items {
		what, limit := "picture", int64(maxPictureBytes)
		if it.Video {
			what, limit = "clip", maxClipBytes
		}
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := s.save(ctx, it, path, limit); err != nil {
			return nil, numbered(err, what, i)
		}
		if err := sniff(path); err != nil {
			return nil, numbered(err, what, i)
		}
		f := vision.Files{Images: []string{path}, Limits: media.Limits{Bytes: limit}}
		if it.Video {
			f.Images, f.Videos = nil, []string{path}
		}
		one, err := s.vision.Open(ctx, f)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			var m *media.Error
			if errors.As(err, &m) {
				err = m.Err
			}
			return nil, unprocessable("%s %d cannot be read: %s", what, i, strings.ReplaceAll(err.Error(), path, "it"))
		}
		list = append(list, one...)
	}
	return list, nil
}

// numbered says of which item an error is.
func numbered(err error, what string, i int) error {
	var api *apiError
	if errors.As(err, &api) {
		return &apiError{api.status, fmt.Sprintf("%s %d: %s", what, i, api.message), "messages"}
	}
	return err
}

// save writes the bytes of an item to a file.
func (s *Server) save(ctx context.Context, it chat.Item, path string, limit int64) error {
	scheme, rest, ok := strings.Cut(it.Source, ":")
	if !ok {
		return bad("messages", "an address is data:, http:, https: or file:")
	}
	switch strings.ToLower(scheme) {
	case "data":
		return saveData(rest, it.Video, path, limit)
	case "http", "https":
		if s.o.Media.NoRemote {
			return bad("messages", "blocked address: this server fetches nothing")
		}
		return s.fetch.save(ctx, it.Source, it.Video, path, limit)
	case "file":
		return s.saveLocal(it.Source, path, limit)
	}
	return bad("messages", "an address is data:, http:, https: or file:, not %.20q", scheme)
}

// saveData reads a data: URL; its type must be that of the bytes.
func saveData(rest string, video bool, path string, limit int64) error {
	head, text, ok := strings.Cut(rest, ",")
	kind, base64d := strings.CutSuffix(head, ";base64")
	if !ok || !base64d {
		return bad("messages", "a data: URL is data:TYPE;base64,…")
	}
	if int64(len(text)) > limit*4/3+4 {
		return &apiError{http.StatusRequestEntityTooLarge, "the data is too large", "messages"}
	}
	data, err := base64.StdEncoding.DecodeString(strings.TrimRight(text, " \r\n"))
	if err != nil {
		if data, err = base64.RawStdEncoding.DecodeString(text); err != nil {
			return unprocessable("the data is not base64")
		}
	}
	if err := typed(kind, data, video); err != nil {
		return err
	}
	return write(path, data)
}

// typed compares a declared type with the bytes, where both are known.
func typed(kind string, data []byte, video bool) error {
	want := "image/"
	if video {
		want = "video/"
	}
	kind = strings.ToLower(strings.TrimSpace(strings.Split(kind, ";")[0]))
	if kind != "" && !strings.HasPrefix(kind, want) && !(video && strings.HasPrefix(kind, "image/")) && kind != "application/octet-stream" {
		return unprocessable("it is declared as %.40q, where %s… is needed", kind, want)
	}
	found := http.DetectContentType(data)
	if strings.HasPrefix(found, "text/") && !strings.HasPrefix(string(data), "YUV4MPEG2") {
		return unprocessable("the bytes are text, no picture and no clip")
	}
	if strings.HasPrefix(found, "image/") && strings.HasPrefix(kind, "image/") && found != kind && !(kind == "image/jpg" && found == "image/jpeg") {
		return unprocessable("it is declared as %.40q, its bytes are %s", kind, found)
	}
	return nil
}

// sniff refuses text: playlists and scripts make decoders open other files.
func sniff(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 512)
	n, _ := io.ReadFull(f, head)
	return typed("", head[:n], true)
}

func write(path string, data []byte) error { return os.WriteFile(path, data, 0o600) }

// saveLocal copies a file of the folder that clients may name.
func (s *Server) saveLocal(address, path string, limit int64) error {
	if s.o.Media.LocalRoot == "" {
		return bad("messages", "blocked address: this server opens no local files")
	}
	u, err := url.Parse(address)
	if err != nil || u.Host != "" && u.Host != "localhost" {
		return bad("messages", "a local file is file:///PATH")
	}
	name := u.Path
	if abs, err := filepath.Abs(s.o.Media.LocalRoot); err == nil {
		if rel, err := filepath.Rel(abs, filepath.FromSlash(name)); err == nil && filepath.IsLocal(rel) {
			name = rel
		}
	}
	if !filepath.IsLocal(name) {
		return bad("messages", "blocked address: the file is not in the folder that clients may name")
	}
	root, err := os.OpenRoot(s.o.Media.LocalRoot) // no link leaves it
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return unprocessable("there is no such file")
	}
	f, err := root.Open(name)
	if err != nil {
		return unprocessable("there is no such file")
	}
	defer f.Close()
	return copyBounded(f, path, limit)
}

func copyBounded(r io.Reader, path string, limit int64) error {
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(r, limit+1))
	if late := w.Close(); err == nil {
		err = late
	}
	switch {
	case err != nil:
		return unprocessable("it cannot be read whole")
	case n > limit:
		return unprocessable("it is larger than %d MiB", limit>>20)
	}
	return nil
}
