package reach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/source"
)

// knownFiles are asked for on a web server, which has no listing.
var knownFiles = []string{
	"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.jinja", "chat_template.json",
	"special_tokens_map.json", "added_tokens.json", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json", "vocab.json", "merges.txt",
	"quant_model_description.json", "glmconv-manifest.json", "LICENSE", "LICENSE.md", "LICENSE.txt", "README.md",
	"model.safetensors.index.json", "quant_model_weights.safetensors.index.json",
}

// openWeb reads a plain folder of a web server.
func openWeb(ctx context.Context, c *client, a address) (*Source, error) {
	base := strings.TrimSuffix(a.url.String(), "/")
	user, password := netrc(c.o, a.url.Hostname())
	w := &web{c: c, endpoint: a.url, match: true, trusted: func(u *url.URL) bool { return origin(u) == origin(a.url) },
		auth: func(r *http.Request) {
			if user != "" {
				r.SetBasicAuth(user, password)
			}
		},
		address: func(f *file) string { return base + "/" + escapePath(f.path) },
	}
	files, err := w.probeAll(ctx, knownFiles)
	if err != nil {
		return nil, err
	}
	shards, err := w.shards(ctx, c, base, files)
	if err != nil {
		return nil, err
	}
	data, err := w.probeAll(ctx, shards)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, &source.Error{Kind: source.ErrMissing, Where: base, Reason: "has neither an index nor a model.safetensors"}
	}
	return newSource(ctx, c, w, base, append(files, data...))
}

// shards lists the names that the index has, or model.safetensors.
func (w *web) shards(ctx context.Context, c *client, name string, files []*file) ([]string, error) {
	var out []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name, ".safetensors.index.json") {
			continue
		}
		s, err := newSource(ctx, c, w, name, []*file{f})
		if err != nil {
			return nil, err
		}
		raw, err := s.ReadSmall(ctx, f.Name, maxIndex)
		s.stop()
		if err != nil {
			return nil, err
		}
		var index struct {
			Map map[string]string `json:"weight_map"`
		}
		if err := json.Unmarshal(raw, &index); err != nil {
			return nil, &source.Error{Kind: source.ErrRefused, Where: name + "/" + f.Name, Reason: "is no index"}
		}
		for _, shard := range index.Map {
			if !flat(shard) {
				return nil, &source.Error{Kind: source.ErrRefused, Where: name + "/" + f.Name, Reason: fmt.Sprintf("names a file %.80q outside of its folder", shard)}
			}
			out = append(out, shard)
		}
	}
	if len(out) == 0 {
		out = []string{"model.safetensors"}
	}
	out = append(out, "mtp.safetensors")
	slices.Sort(out)
	return slices.Compact(out), nil
}

// probeAll asks for the sizes of files; those that are not there are left out.
func (w *web) probeAll(ctx context.Context, names []string) ([]*file, error) {
	found := make([]*file, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cap(w.c.small))
	for i, name := range names {
		g.Go(func() (err error) {
			found[i], err = w.probe(ctx, name)
			return err
		})
	}
	err := g.Wait()
	return slices.DeleteFunc(found, func(f *file) bool { return f == nil }), err
}

// probe asks for the size and the entity tag of a file, nil if there is none. A
// shard must be served by ranges.
func (w *web) probe(ctx context.Context, name string) (*file, error) {
	f := &file{Entry: source.Entry{Name: name}, path: name, located: &located{}}
	u, err := url.Parse(w.address(f))
	if err != nil {
		return nil, &source.Error{Kind: source.ErrRefused, Where: shown(w.endpoint), Reason: "has no address for " + name}
	}
	t := w.c.trial(shown(u))
	for {
		err := w.ask(t.in(ctx), u, f)
		if err == nil {
			return f, nil
		}
		var st *statusError
		if errors.As(err, &st) && st.code == http.StatusNotFound {
			return nil, nil
		}
		if err := t.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

func (w *web) ask(ctx context.Context, u *url.URL, f *file) error {
	method, header := http.MethodHead, http.Header{}
	if isShard(f.Name) {
		method = http.MethodGet
		header.Set("Range", "bytes=0-0")
	}
	for range maxRedirects {
		res, err := w.c.send(ctx, method, u, header, w.authFor(u))
		if err != nil {
			return err
		}
		to, err := w.c.next(res, u, w.endpoint)
		drain(res)
		if err != nil {
			return err
		}
		if to != nil {
			u = to
			continue
		}
		switch {
		case res.StatusCode == http.StatusPartialContent:
			if _, f.Size, _ = contentRange(res.Header.Get("Content-Range")); f.Size < 0 {
				return refused(u, "does not say how long it is")
			}
		case res.StatusCode == http.StatusOK && method == http.MethodGet:
			return refused(u, "the server does not serve ranges")
		case res.StatusCode == http.StatusOK && res.ContentLength >= 0:
			f.Size = res.ContentLength
		case res.StatusCode == http.StatusOK:
			return refused(u, "does not say how long it is")
		default:
			return &statusError{url: u, code: res.StatusCode, header: res.Header}
		}
		if f.etag = res.Header.Get("ETag"); strings.HasPrefix(f.etag, `"`) {
			f.Version = f.etag
		} else {
			f.etag, f.Version = "", "weak: "+res.Header.Get("Last-Modified")
		}
		return nil
	}
	return refused(u, "redirects without end")
}

// netrc finds the credentials of a host in the file of that name.
func netrc(o Options, host string) (user, password string) {
	path := o.Getenv("NETRC")
	if path == "" {
		if path = o.Getenv("HOME"); path == "" {
			return "", ""
		}
		path = filepath.Join(path, ".netrc")
	}
	in, err := os.Open(path)
	if err != nil {
		return "", ""
	}
	defer in.Close()
	text, _ := io.ReadAll(io.LimitReader(in, 1<<20))
	words := strings.Fields(string(text))
	ours := false
	for i := 0; i+1 < len(words); i++ {
		switch words[i] {
		case "machine":
			if ours && user != "" {
				return user, password
			}
			ours = words[i+1] == host
		case "login":
			if ours {
				user = words[i+1]
			}
		case "password":
			if ours {
				password = words[i+1]
			}
		default:
			continue
		}
		i++
	}
	return user, password
}
