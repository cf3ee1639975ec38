package serve

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestAddresses: every spelling of an address that is not public is refused, by
// what is dialled where the name does not tell.
func TestAddresses(t *testing.T) {
	f := newFetcher(MediaOptions{})
	for _, host := range []string{"127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "0", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]",
		"[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "169.254.169.254", "[::ffff:169.254.169.254]", "10.0.0.1",
		"172.16.0.1", "192.168.1.1", "100.64.0.1", "100.100.100.200", "168.63.129.16", "224.0.0.1", "255.255.255.255", "[ff02::1]", "127.0.0.1.", "localhost", "LOCALHOST", "user:pw@127.0.0.1"} {
		for _, scheme := range []string{"http://", "https://"} {
			err := f.save(t.Context(), scheme+host+"/a.png", false, filepath.Join(t.TempDir(), "a"), 1<<20)
			var api *apiError
			require.ErrorAs(t, err, &api, host)
			assert.Equal(t, 400, api.status, host)
			assert.Contains(t, api.message, "blocked address", host)
		}
	}
	for _, u := range []string{"http://example.com:22/", "http://example.com:8080/", "ftp://example.com/", "gopher://example.com/", "http://a:b@example.com/", "http:///x"} {
		parsed, err := url.Parse(u)
		require.NoError(t, err)
		assert.ErrorIs(t, f.check(parsed), errBlocked, u)
	}
	for a, want := range map[string]bool{"8.8.8.8": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true, "fe80::1%eth0": false} {
		assert.Equal(t, want, public(netip.MustParseAddr(a)), a)
	}
}

// TestRedirects: a redirect to what may not be reached is refused like the address
// itself, and one that never ends ends.
func TestRedirects(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(picture(t, color.White)) }))
	defer inner.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/in", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inner.URL+"/a.png", http.StatusFound)
	})
	mux.HandleFunc("/meta", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) })
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(picture(t, color.White)) })
	outer := httptest.NewServer(mux)
	defer outer.Close()
	at, err := url.Parse(outer.URL)
	require.NoError(t, err)
	f := newFetcher(MediaOptions{Domains: []string{at.Hostname()}})
	f.dialable = func(a netip.Addr) bool { return a.IsLoopback() } // as if this machine were public
	for path, says := range map[string]string{"/ok": "", "/in": "", "/meta": "blocked address", "/loop": "cannot be fetched", "/large": "larger than", "/none": "status 404"} {
		err := f.save(t.Context(), outer.URL+path, false, filepath.Join(t.TempDir(), "a"), 1<<20)
		if says == "" {
			assert.NoError(t, err, path)
			continue
		}
		require.Error(t, err, path)
		assert.Contains(t, err.Error(), says, path)
	}
	f = newFetcher(MediaOptions{}) // what a name resolves to is looked at when it is dialled
	err = f.save(t.Context(), "http://localhost/ok", false, filepath.Join(t.TempDir(), "a"), 1<<20)
	require.Error(t, err)
	assert.Contains(t, err.Error(), "blocked address")
}

func picture(t *testing.T, c color.Color) []byte {
	t.Helper()
	im := image.NewRGBA(image.Rect(0, 0, 60, 60))
	for i := range 3600 {
		im.Set(i%60, i/60, c)
	}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, im))
	return b.Bytes()
}

// TestPictures: pictures of data: URLs, local files and allowed hosts reach the
// model; what is none is refused with its place.
func TestPictures(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(testkit.Shared(t, "reference/nano-glm45v"))))
	const template = "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}" +
		"{% else %}<|begin_of_image|><|image|><|end_of_image|>{% endif %}{% endfor %}{% endif %}{% endfor %}<|assistant|>\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(template), 0o600))
	local := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(local, "red.png"), picture(t, color.RGBA{255, 0, 0, 255}), 0o600))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(local, "link.png")))
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(picture(t, color.RGBA{255, 0, 0, 255})) }))
	defer host.Close()
	s, err := New(dir, Options{Threads: 2, Media: MediaOptions{Domains: []string{"127.0.0.1"}, Private: true, LocalRoot: local}})
	require.NoError(t, err)
	h := httptest.NewServer(s.Handler())
	defer func() { h.Close(); assert.NoError(t, s.Close()) }()
	say := func(address string) (int, string) {
		data, err := json.Marshal(map[string]any{"temperature": 0, "max_tokens": 5, "return_token_ids": true, "messages": []any{map[string]any{"role": "user", "content": []any{
			map[string]any{"type": "image_url", "image_url": map[string]any{"url": address}}, map[string]any{"type": "text", "text": "What is it?"}}}}})
		require.NoError(t, err)
		return post(t, h.URL+"/v1/chat/completions", string(data))
	}
	encoded := "data:image/png;base64," + base64.StdEncoding.EncodeToString(picture(t, color.RGBA{255, 0, 0, 255}))
	tokens := func(text string) (ids []int) {
		var m struct {
			Choices []struct {
				IDs []int `json:"token_ids"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(text), &m))
		return m.Choices[0].IDs
	}
	code, first := say(encoded)
	require.Equal(t, 200, code, first)
	for _, address := range []string{"file://" + filepath.Join(local, "red.png"), "file:///red.png", host.URL + "/red.png"} {
		code, text := say(address)
		if strings.HasSuffix(address, ":///red.png") { // not an absolute path of the folder
			assert.NotEqual(t, 200, code, text)
			continue
		}
		require.Equal(t, 200, code, text)
		assert.Equal(t, tokens(first), tokens(text), address)
	}
	for address, want := range map[string]int{"file://" + filepath.Join(local, "link.png"): 422, "file:///etc/passwd": 400, "file://" + local + "/../x": 400, "http://169.254.169.254/": 400,
		"data:image/png;base64,AAAA": 422, "data:image/png,raw": 400, "data:text/html;base64,PGh0bWw+": 422, "data:image/jpeg;base64," + encoded[22:]: 422, "/etc/passwd": 400, "javascript:1": 400,
		"data:image/png;base64," + base64.StdEncoding.EncodeToString([]byte("#EXTM3U\nfile:///etc/passwd\n")): 422} {
		code, text := say(address)
		assert.Equal(t, want, code, "%.60s: %s", address, text)
		assert.NotContains(t, text, os.TempDir())
	}
}
