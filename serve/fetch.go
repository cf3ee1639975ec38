package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fetcher reads what clients name from the network. Clients choose addresses, so
// that it must not reach what they cannot reach themselves: the address that is
// dialled is looked at, after names were resolved, for every redirect.
type fetcher struct {
	o        MediaOptions
	client   *http.Client
	resolver *net.Resolver
	dialable func(netip.Addr) bool
}

// errBlocked is an address that is not dialled.
var errBlocked = errors.New("blocked address")

const maxRedirects = 5

func newFetcher(o MediaOptions) *fetcher {
	f := &fetcher{o: o, dialable: public}
	if o.Private {
		f.dialable = func(a netip.Addr) bool { return !a.IsUnspecified() && !a.IsMulticast() }
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !f.dialable(at.Addr()) {
			return errBlocked
		}
		return nil
	}}
	transport := &http.Transport{Proxy: nil, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			d := *dialer
			d.Resolver = f.resolver
			return d.DialContext(ctx, network, address)
		}}
	f.client = &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		r.Header.Del("Referer")
		return f.check(r.URL)
	}}
	return f
}

// check looks at an address before its name is resolved.
func (f *fetcher) check(u *url.URL) error {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	listed := slices.ContainsFunc(f.o.Domains, func(d string) bool { return strings.EqualFold(strings.TrimSuffix(d, "."), host) })
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.User != nil, host == "":
		return errBlocked
	case len(f.o.Domains) > 0 && !listed:
		return errBlocked
	case !listed && u.Port() != "" && u.Port() != "80" && u.Port() != "443":
		if !f.o.Private {
			return errBlocked
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if !f.dialable(ip) {
			return errBlocked
		}
		return nil
	}
	// 2130706433, 0x7f.1 and 0177.0.0.1 are addresses to some resolvers.
	last := host[strings.LastIndexByte(host, '.')+1:]
	if _, err := strconv.ParseUint(last, 0, 64); err == nil || strings.HasPrefix(last, "0x") || last != "" && strings.Trim(last, "0123456789") == "" {
		return errBlocked
	}
	return nil
}

// save fetches an address into a file.
func (f *fetcher) save(ctx context.Context, address string, video bool, path string, limit int64) error {
	wait := 5 * time.Second
	if video {
		wait = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	u, err := url.Parse(address)
	if err == nil {
		err = f.check(u)
	}
	if err != nil {
		return bad("messages", "blocked address")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return bad("messages", "blocked address")
	}
	req.Header.Set("User-Agent", "glmconv")
	resp, err := f.client.Do(req)
	switch {
	case errors.Is(err, errBlocked):
		return bad("messages", "blocked address")
	case err != nil:
		return unprocessable("it cannot be fetched")
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return unprocessable("it cannot be fetched: status %d", resp.StatusCode)
	}
	if resp.ContentLength > limit {
		return unprocessable("it is larger than %d MiB", limit>>20)
	}
	return copyBounded(resp.Body, path, limit)
}

// closed are networks that are not the public internet beyond what netip knows
// (RFC 6890 and its registry), and the metadata service of Azure.
var closed = func() (list []netip.Prefix) {
	for _, s := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"168.63.129.16/32", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10", "5f00::/16", "3fff::/20"} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

// public reports whether an address may be dialled for a client.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return false
	}
	return !slices.ContainsFunc(closed, func(p netip.Prefix) bool { return p.Contains(a) })
}
