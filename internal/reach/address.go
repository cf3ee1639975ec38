package reach

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/source"
)

// Schemes lists what addresses begin with, for help texts.
const Schemes = "hf://ORG/NAME[@REV][/SUB], hf-cache://ORG/NAME[@REV], ms://ORG/NAME[@REV], https://HOST/DIR/, " +
	"s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://ACCOUNT/CONTAINER/PREFIX"

// address is a parsed address.
type address struct {
	scheme string
	id     string // org/name, a bucket, or account/container
	rev    string // "" if not given
	sub    string // folder inside, without slashes at its ends
	url    *url.URL
	query  url.Values // of buckets
}

var (
	segment = lazy.Regexp(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	bucket  = lazy.Regexp(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	gbucket = lazy.Regexp(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`)
	account = lazy.Regexp(`^[a-z0-9]{3,24}$`)
	contain = lazy.Regexp(`^(\$root|\$web|[a-z0-9](?:-?[a-z0-9]){2,62})$`)
)

func badAddress(text, format string, args ...any) error {
	return &source.Error{Kind: source.ErrAddress, Where: withoutQuery(text), Reason: fmt.Sprintf(format, args...), Advice: "an address is one of " + Schemes}
}

// withoutQuery returns what of an address may be shown.
func withoutQuery(text string) string {
	text, _, _ = strings.Cut(text, "?")
	if head, rest, ok := strings.Cut(text, "://"); ok {
		host, path, slash := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(host, '@'); at >= 0 {
			host = host[at+1:]
		}
		text = head + "://" + host
		if slash {
			text += "/" + path
		}
	}
	return text
}

// parse reads an address. endpoint is the hub's: https addresses below it are
// repositories.
func parse(text, endpoint string) (a address, err error) {
	scheme := source.Scheme(text)
	rest := strings.TrimPrefix(text, scheme+"://")
	for _, c := range text {
		if c < ' ' || c == '\\' || c == 0x7f {
			return a, badAddress(scheme+"://", "has a control character or a backslash")
		}
	}
	switch scheme {
	case "hf", "hf-cache", "ms":
		return parseRepository(text, scheme, rest)
	case "https", "http":
		return parseWeb(text, endpoint)
	case "s3", "gs", "az":
		return parseBucket(text, scheme, rest)
	}
	return a, badAddress(text, "has a scheme that is not known (%s)", scheme)
}

func parseRepository(text, scheme, rest string) (a address, err error) {
	parts := strings.Split(strings.TrimPrefix(rest, "models/"), "/")
	switch parts[0] {
	case "datasets", "spaces", "kernels", "buckets", "model":
		return a, badAddress(text, "is not a repository of a model")
	}
	if len(parts) < 2 || parts[1] == "" {
		return a, badAddress(text, "needs an organisation and a name")
	}
	name, rev, has := strings.Cut(parts[1], "@")
	sub := parts[2:]
	if has {
		if rev == "refs" && len(sub) >= 2 && (sub[0] == "pr" || sub[0] == "convert") { // the revisions that hold slashes
			rev, sub = strings.Join([]string{rev, sub[0], sub[1]}, "/"), sub[2:]
		}
		if rev, err = url.PathUnescape(rev); err != nil || rev == "" {
			return a, badAddress(text, "has an empty or badly escaped revision")
		}
	}
	if !segment().MatchString(parts[0]) || !segment().MatchString(name) {
		return a, badAddress(text, "has an organisation or a name that no hub allows")
	}
	a = address{scheme: scheme, id: parts[0] + "/" + name, rev: rev}
	return a, a.setSub(text, sub)
}

// setSub checks the folder inside.
func (a *address) setSub(text string, parts []string) error {
	if n := len(parts); n > 0 && parts[n-1] == "" {
		parts = parts[:n-1]
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." {
			return badAddress(text, "has an empty or relative part in its path")
		}
	}
	a.sub = strings.Join(parts, "/")
	return nil
}

func parseWeb(text, endpoint string) (a address, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return a, badAddress(text, "is not an address")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return a, badAddress(text, "has credentials, a query or a fragment: credentials of a host belong into ~/.netrc")
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return a, badAddress(text, "is not encrypted: http is for loopback alone")
	}
	if below, ok := strings.CutPrefix(text, endpoint+"/"); ok && endpoint != "" && !strings.HasSuffix(text, "/") {
		parts := strings.Split(below, "/")
		if len(parts) == 2 {
			return parseRepository(text, "hf", below)
		}
		if len(parts) == 4 && parts[2] == "tree" {
			return parseRepository(text, "hf", parts[0]+"/"+parts[1]+"@"+parts[3])
		}
	}
	if !strings.HasSuffix(u.Path, "/") {
		return a, badAddress(text, "must end with a slash: the address of a folder")
	}
	return address{scheme: "https", url: u}, nil
}

func parseBucket(text, scheme, rest string) (a address, err error) {
	rest, query, _ := strings.Cut(rest, "?")
	name, prefix, _ := strings.Cut(rest, "/")
	switch {
	case scheme == "az":
		var inside string
		inside, prefix, _ = strings.Cut(prefix, "/")
		if !account().MatchString(name) || !contain().MatchString(inside) {
			return a, badAddress(text, "has no valid names of an account and a container")
		}
		name += "/" + inside
	case scheme == "gs" && !gbucket().MatchString(name), scheme == "s3" && !bucket().MatchString(name):
		return a, badAddress(text, "has no valid name of a bucket")
	}
	a = address{scheme: scheme, id: name}
	if a.query, err = url.ParseQuery(query); err != nil {
		return a, badAddress(text, "has a malformed query")
	}
	for k := range a.query {
		if k != "anonymous" {
			return a, badAddress(text, "has a query that is not ?anonymous=1")
		}
	}
	var parts []string
	if prefix != "" {
		parts = strings.Split(prefix, "/")
	}
	return a, a.setSub(text, parts)
}

// loopback reports whether a host is this machine by name or number.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// private reports whether a host is one that nobody outside can mean: loopback,
// link-local or of a private network.
func private(host string) bool {
	ip := net.ParseIP(host)
	return loopback(host) || ip != nil && (ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified())
}
