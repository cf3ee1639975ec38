package reach

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/source"
)

// TestNamesOfPrivateNetworks: where a server may lead to is decided by the address
// that is dialled.
func TestNamesOfPrivateNetworks(t *testing.T) {
	const hub, data = "hub.example:443", "data.example:443"
	for _, test := range []struct {
		name         string
		hubAt, to    string
		led, proxied bool
		want         bool
	}{
		{"public to public", "1.1.1.1:443", "8.8.8.8:443", true, false, true},
		{"public to loopback", "1.1.1.1:443", "127.0.0.1:443", true, false, false},
		{"public to ten", "1.1.1.1:443", "10.1.2.3:443", true, false, false},
		{"public to link-local", "1.1.1.1:443", "169.254.169.254:443", true, false, false},
		{"public to a mapped address", "1.1.1.1:443", "[::ffff:192.168.1.1]:443", true, false, false},
		{"public to a zone", "1.1.1.1:443", "[fe80::1%eth0]:443", true, false, false},
		{"public to a local address of version 6", "1.1.1.1:443", "[fd00::1]:443", true, false, false},
		{"public to a proxy", "1.1.1.1:443", "10.1.2.3:443", true, true, true},
		{"a private mirror to its own data", "10.0.0.1:443", "10.1.2.3:443", true, false, true},
		{"a host that the user named", "1.1.1.1:443", "10.1.2.3:443", false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDialer(&Options{})
			require.True(t, d.may(hub, test.hubAt))
			if test.led {
				d.lead(&url.URL{Scheme: "https", Host: "data.example"}, &url.URL{Scheme: "https", Host: "hub.example"})
			}
			d.proxy[data] = test.proxied
			assert.Equal(t, test.want, d.may(data, test.to))
		})
	}
}

// TestRedirectByName: the refusal ends the command at once, and nothing is sent.
func TestRedirectByName(t *testing.T) {
	asked := false
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(srv.Close)
	o := quick()
	at := strings.TrimPrefix(srv.URL, "https://")
	o.names = map[string]string{"inner.example:443": at, "mirror.example:443": at}
	require.NoError(t, o.defaults())
	c, err := newClient(o)
	require.NoError(t, err)
	inner := &url.URL{Scheme: "https", Host: "inner.example", Path: "/x"}
	for _, endpoint := range []string{"hub.example", "mirror.example"} {
		from := &url.URL{Scheme: "https", Host: endpoint}
		_, err = c.send(t.Context(), http.MethodGet, &url.URL{Scheme: "https", Host: "mirror.example"}, nil, nil)
		require.Error(t, err, "a certificate of nobody")
		to, err := c.next(&http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {inner.String()}}}, from, from)
		require.NoError(t, err)
		_, err = c.send(t.Context(), http.MethodGet, to, nil, nil)
		if endpoint == "hub.example" {
			require.ErrorIs(t, err, source.ErrRefused)
			assert.ErrorIs(t, c.trial("x").again(t.Context(), err), source.ErrRefused, "once is enough")
		} else {
			require.NotErrorIs(t, err, source.ErrRefused)
		}
	}
	assert.False(t, asked)
	hub := &url.URL{Scheme: "https", Host: "hub.example"} // such a name is dialled in another spelling
	_, err = c.next(&http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {"https://bücher.example/x"}}}, hub, hub)
	require.ErrorIs(t, err, source.ErrRefused)
}
