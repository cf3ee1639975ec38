package reach

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/source"
)

const hubEndpoint = "https://huggingface.co"

var commitID = lazy.Regexp(`^[0-9a-f]{40}$`)

// hubBase returns the address of the hub without a slash at its end.
func (o *Options) hubBase() string {
	if e := o.first("HF_ENDPOINT"); e != "" {
		return strings.TrimRight(e, "/")
	}
	return hubEndpoint
}

// hubToken finds the credential, "" if there is none. A file that was named must
// be there.
func (o *Options) hubToken() (string, error) {
	if o.TokenFile != "" {
		return readToken(o.TokenFile)
	}
	switch strings.ToUpper(o.Getenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
	case "1", "ON", "YES", "TRUE":
		return "", nil
	}
	if t := o.first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"); t != "" {
		return t, nil
	}
	if file := o.Getenv("HF_TOKEN_PATH"); file != "" {
		return readToken(file)
	}
	home := o.hubHome()
	if home == "" {
		return "", nil
	}
	token, err := readToken(filepath.Join(home, "token"))
	if errors.Is(err, fs.ErrNotExist) { // nobody is logged in
		return "", nil
	}
	return token, err
}

// hubHome is the folder of the hub's own client.
func (o *Options) hubHome() string {
	if h := o.Getenv("HF_HOME"); h != "" {
		return h
	}
	if x := o.Getenv("XDG_CACHE_HOME"); x != "" {
		return filepath.Join(x, "huggingface")
	}
	if h := o.Getenv("HOME"); h != "" {
		return filepath.Join(h, ".cache", "huggingface")
	}
	return ""
}

// readToken reads a file with a credential and nothing else.
func readToken(file string) (string, error) {
	b, err := fsx.ReadRegular(file, 64<<10)
	if err != nil {
		return "", &source.Error{Kind: source.ErrAddress, Where: file, Reason: "the file with the token cannot be read", Err: err}
	}
	return strings.TrimSpace(string(b)), nil
}

// hub reads one repository of a hub.
type hub struct {
	*web
	base   string
	a      address
	commit string
}

type treeEntry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	Size int64  `json:"size"`
	OID  string `json:"oid"`
	Xet  string `json:"xetHash"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
}

func openHub(ctx context.Context, c *client, a address) (*Source, error) {
	h := &hub{base: c.o.hubBase(), a: a}
	endpoint, err := url.Parse(h.base)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "https" && !(endpoint.Scheme == "http" && loopback(endpoint.Hostname())) {
		return nil, &source.Error{Kind: source.ErrAddress, Where: "HF_ENDPOINT", Reason: "is not an https address"}
	}
	token, err := c.o.hubToken()
	if err != nil {
		return nil, err
	}
	h.web = &web{c: c, endpoint: endpoint, header: http.Header{},
		trusted: func(u *url.URL) bool {
			return origin(u) == origin(endpoint) || h.base == hubEndpoint && u.Scheme == "https" && (u.Host == "hf.co" || u.Host == "huggingface.co")
		},
		auth: func(r *http.Request) {
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
		},
		address: func(f *file) string {
			return h.base + "/" + a.id + "/resolve/" + h.commit + "/" + escapePath(f.path)
		},
	}
	if c.o.Data {
		h.header.Set("X-HF-Download-Counter", "1")
	}
	files, err := h.files(ctx)
	if err != nil {
		return nil, err
	}
	name := "hf://" + a.id + "@" + h.commit
	if a.sub != "" {
		name += "/" + a.sub
	}
	s, err := newSource(ctx, c, h.web, name, files)
	if err == nil {
		s.commit = h.commit
	}
	return s, err
}

// files pins the revision and lists it, or takes both from a plan file.
func (h *hub) files(ctx context.Context) (files []*file, err error) {
	if saved := h.c.o.saved; saved != nil {
		return h.pinned(saved)
	}
	if h.commit, err = h.resolve(ctx); err != nil {
		return nil, err
	}
	return h.list(ctx)
}

// resolve pins the revision.
func (h *hub) resolve(ctx context.Context) (string, error) {
	rev := h.a.rev
	if rev == "" {
		rev = "main"
	}
	if commitID().MatchString(rev) {
		return rev, nil
	}
	var info struct {
		SHA      string `json:"sha"`
		Disabled bool   `json:"disabled"`
	}
	where := h.base + "/api/models/" + h.a.id + "/revision/" + url.PathEscape(rev)
	if _, err := h.json(ctx, where, &info); err != nil {
		return "", err
	}
	if !commitID().MatchString(info.SHA) {
		return "", &source.Error{Kind: source.ErrRefused, Where: where, Reason: "names no commit: this is no hub"}
	}
	if info.Disabled {
		return "", &source.Error{Kind: source.ErrDenied, Where: where, Reason: "was disabled by the hub"}
	}
	return info.SHA, nil
}

// list reads the files of the commit, page by page.
func (h *hub) list(ctx context.Context) (files []*file, err error) {
	page := h.base + "/api/models/" + h.a.id + "/tree/" + h.commit
	prefix := ""
	if h.a.sub != "" {
		prefix = h.a.sub + "/"
		page += "/" + escapePath(h.a.sub)
	}
	page += "?recursive=true&expand=false"
	for page != "" {
		var entries []treeEntry
		header, err := h.json(ctx, page, &entries)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name, below := strings.CutPrefix(e.Path, prefix)
			if e.Type != "file" || !below || !flat(name) {
				continue
			}
			f := &file{Entry: source.Entry{Name: name, Size: e.Size, Version: e.OID}, path: e.Path, git: e.OID, located: &located{}}
			if e.LFS != nil {
				f.Size, f.SHA256, f.Version, f.git = e.LFS.Size, e.LFS.OID, e.LFS.OID, ""
			} else if e.Xet != "" || !commitID().MatchString(e.OID) { // not git's hash of the content
				f.git = ""
			}
			files = append(files, f)
		}
		if len(files) > maxListed {
			return nil, &source.Error{Kind: source.ErrRefused, Where: h.base, Reason: "lists files without end"}
		}
		if page, err = h.nextPage(header.Get("Link"), page); err != nil {
			return nil, err
		}
	}
	return files, nil
}

var linkNext = lazy.Regexp(`<([^>]*)>\s*;\s*rel="?next"?`)

// nextPage returns the address in a Link header. A mirror may pass on the default
// hub's addresses: the endpoint takes its place.
func (h *hub) nextPage(link, page string) (string, error) {
	m := linkNext().FindStringSubmatch(link)
	if m == nil {
		return "", nil
	}
	to := m[1]
	if rest, ok := strings.CutPrefix(to, hubEndpoint+"/"); ok {
		to = h.base + "/" + rest
	}
	from, err := url.Parse(page)
	if err != nil {
		return "", err
	}
	u, err := from.Parse(to)
	if err != nil || u.String() == page {
		return "", refused(from, "has a next page that is none")
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) || private(u.Hostname()) && !private(h.endpoint.Hostname()) || !ascii(u.Hostname()) {
		return "", refused(from, "has its next page at an address that is not followed")
	}
	h.c.dialer.lead(u, h.endpoint)
	return u.String(), nil
}

func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}
