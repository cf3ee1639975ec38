package reach

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/glmconv/glmconv/source"
)

// dialer connects. A host that a server has led to must not lie in a private network
// unless that server does: what counts is the address that is dialled, since a name
// may resolve to any. Hosts that the user has named, proxies among them, may lie
// anywhere.
type dialer struct {
	names map[string]string // of tests: what is dialled for HOST:PORT

	mu     sync.Mutex
	led    map[string]string // HOST:PORT that a server has led to, and that server's
	inside map[string]bool   // HOST:PORT that was dialled at a private address
	proxy  map[string]bool   // HOST:PORT of proxies
}

func newDialer(o *Options) *dialer {
	return &dialer{names: o.names, led: map[string]string{}, inside: map[string]bool{}, proxy: map[string]bool{}}
}

// ascii reports whether a name is dialled as it is written.
func ascii(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 })
}

// hostPort is what is dialled for an address.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// lead notes that an endpoint has led to a host.
func (d *dialer) lead(to, endpoint *url.URL) {
	if hostPort(to) == hostPort(endpoint) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.led[hostPort(to)] = hostPort(endpoint)
}

// proxyOf is http.ProxyFromEnvironment; it remembers the proxies.
func (d *dialer) proxyOf(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if err == nil && u != nil {
		d.mu.Lock()
		d.proxy[hostPort(u)] = true
		d.mu.Unlock()
	}
	return u, err
}

// may reports whether a host may be reached at an address.
func (d *dialer) may(host, address string) bool {
	at, err := netip.ParseAddrPort(address)
	near := err != nil || private(at.Addr().WithZone("").Unmap().String())
	d.mu.Lock()
	defer d.mu.Unlock()
	from, led := d.led[host]
	switch {
	case d.proxy[host]:
		return true
	case !led:
		d.inside[host] = d.inside[host] || near
		return true
	}
	return !near || d.inside[from]
}

// dial implements http.Transport.DialContext.
func (d *dialer) dial(ctx context.Context, network, host string) (net.Conn, error) {
	var blocked atomic.Bool
	to := host
	if other := d.names[host]; other != "" {
		to = other
	}
	conn, err := (&net.Dialer{Timeout: 10 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		if d.may(host, address) {
			return nil
		}
		blocked.Store(true)
		return errInside
	}}).DialContext(ctx, network, to)
	if err != nil && blocked.Load() {
		return nil, &source.Error{Kind: source.ErrRefused, Where: host, Reason: "is a name of a private network, and a public host redirects to it",
			Advice: "if both are yours, name the mirror by an address in the same network (HF_ENDPOINT)"}
	}
	return conn, err
}

var errInside = &net.AddrError{Err: "address of a private network"}
