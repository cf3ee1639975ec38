package reach

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/source"
)

// listCap is where ModelScope cuts a listing in silence.
const listCap = 3000

// scopeBase returns the address of ModelScope without a slash at its end.
func (o *Options) scopeBase() string {
	if e := o.first("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"); e != "" {
		if !strings.Contains(e, "://") {
			e = "https://" + e
		}
		return strings.TrimRight(e, "/")
	}
	if v := strings.ToLower(o.Getenv("MODELSCOPE_PREFER_AI_SITE")); v == "1" || v == "true" {
		return "https://www.modelscope.ai"
	}
	return "https://modelscope.cn"
}

// scope reads one repository of ModelScope.
type scope struct {
	*web
	base string
	a    address
}

type scopeList struct {
	Code    int    `json:"Code"`
	Success bool   `json:"Success"`
	Message string `json:"Message"`
	Data    struct {
		Files []struct {
			Path     string `json:"Path"`
			Type     string `json:"Type"`
			Size     int64  `json:"Size"`
			SHA256   string `json:"Sha256"`
			Revision string `json:"Revision"`
		} `json:"Files"`
	} `json:"Data"`
}

func openScope(ctx context.Context, c *client, a address) (*Source, error) {
	m := &scope{base: c.o.scopeBase(), a: a}
	if m.a.rev == "" {
		m.a.rev = "master"
	}
	endpoint, err := url.Parse(m.base)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "https" && !(endpoint.Scheme == "http" && loopback(endpoint.Hostname())) {
		return nil, &source.Error{Kind: source.ErrAddress, Where: "MODELSCOPE_ENDPOINT", Reason: "is not an https address"}
	}
	token := c.o.first("MODELSCOPE_API_TOKEN")
	if c.o.TokenFile != "" {
		if token, err = readToken(c.o.TokenFile); err != nil {
			return nil, err
		}
	}
	m.web = &web{c: c, endpoint: endpoint, trusted: func(u *url.URL) bool { return origin(u) == origin(endpoint) },
		auth: func(r *http.Request) {
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
				r.AddCookie(&http.Cookie{Name: "m_session_id", Value: token})
			}
		},
		address: func(f *file) string {
			return m.base + "/api/v1/models/" + a.id + "/repo?Revision=" + url.QueryEscape(m.a.rev) + "&FilePath=" + url.QueryEscape(f.path)
		},
	}
	files, err := m.list(ctx)
	if err != nil {
		return nil, err
	}
	name := "ms://" + a.id + "@" + strings.ReplaceAll(m.a.rev, "/", "%2F")
	if a.sub != "" {
		name += "/" + a.sub
	}
	s, err := newSource(ctx, c, m.web, name, files)
	if err != nil {
		return nil, err
	}
	was := digest(files)
	s.recheck = func(ctx context.Context) error { // a branch may move, and no commit can be asked for
		now, err := m.list(ctx)
		if err == nil && digest(now) != was {
			err = &source.Error{Kind: source.ErrChanged, Where: name, Reason: "the repository has other files than when this began", Advice: "begin anew"}
		}
		return err
	}
	return s, nil
}

// digest names a listing by its names, sizes and hashes.
func digest(files []*file) string {
	lines := make([]string, len(files))
	for i, f := range files {
		lines[i] = fmt.Sprintf("%q %d %s %s\n", f.Name, f.Size, f.SHA256, f.Version)
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:])
}

func (m *scope) list(ctx context.Context) ([]*file, error) {
	files, cut, err := m.page(ctx, true)
	if err == nil && cut { // the folder alone
		if files, cut, err = m.page(ctx, false); err == nil && cut {
			err = &source.Error{Kind: source.ErrRefused, Where: m.base, Reason: "lists " + strconv.Itoa(listCap) + " files of one folder, and cuts longer listings there"}
		}
	}
	return files, err
}

func (m *scope) page(ctx context.Context, recursive bool) (files []*file, cut bool, err error) {
	q := url.Values{"Revision": {m.a.rev}, "Recursive": {map[bool]string{true: "True", false: "False"}[recursive]}}
	prefix := ""
	if m.a.sub != "" {
		q.Set("Root", m.a.sub)
		prefix = m.a.sub + "/"
	}
	where := m.base + "/api/v1/models/" + m.a.id + "/repo/files"
	var list scopeList
	if _, err := m.json(ctx, where+"?"+q.Encode(), &list); err != nil {
		return nil, false, err
	}
	if list.Code != http.StatusOK || !list.Success {
		u, _ := url.Parse(where)
		return nil, false, (&statusError{url: u, code: http.StatusNotFound, header: http.Header{}}).meaning()
	}
	for _, e := range list.Data.Files {
		name, below := strings.CutPrefix(e.Path, prefix)
		if e.Type != "blob" || !below || !flat(name) {
			continue
		}
		files = append(files, &file{path: e.Path, located: &located{},
			Entry: source.Entry{Name: name, Size: e.Size, SHA256: strings.ToLower(e.SHA256), Version: e.Revision + " " + e.SHA256}})
	}
	return files, len(list.Data.Files) >= listCap, nil
}
