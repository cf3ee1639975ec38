package reach

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fakes"
	"github.com/glmconv/glmconv/internal/fakes/fakeazure"
	"github.com/glmconv/glmconv/internal/fakes/fakegcs"
	"github.com/glmconv/glmconv/source"
)

// TestCredentialsOfStores: what a private, a public and an absent place answer to
// each kind of credentials; what is refused says which to give, and no secret.
func TestCredentialsOfStores(t *testing.T) {
	objects := map[string][]byte{"m/config.json": []byte("{}"), "m/deeper/x": []byte("x")}
	gs, az := fakegcs.New(t, "bucket", objects), fakeazure.New(t, "models", objects)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	federated := file("federated", fakeazure.Secret+"\n")
	link := filepath.Join(dir, "link") // as Kubernetes projects tokens
	require.NoError(t, os.Symlink(federated, link))
	host, blob := "STORAGE_EMULATOR_HOST="+gs.URL, "AZURE_STORAGE_SERVICE_ENDPOINT="+az.URL
	const gone = "GOOGLE_APPLICATION_CREDENTIALS="
	for _, test := range []struct {
		name, address string
		env           []string
		public        bool
		kind          error
		says          string
	}{
		{"service account", "gs://bucket/m", gs.Env(t), false, nil, ""},
		{"file of gcloud", "gs://bucket/m", []string{host, "CLOUDSDK_CONFIG=" + configOf(t, gs.Account(t))}, false, nil, ""},
		{"public", "gs://bucket/m", []string{host}, true, nil, ""},
		{"public although there is an account", "gs://bucket/m?anonymous=1", append(gs.Env(t), gone+"/nowhere"), true, nil, ""},
		{"private", "gs://bucket/m", []string{host}, false, source.ErrDenied, "GOOGLE_APPLICATION_CREDENTIALS"},
		{"token of another", "gs://bucket/m", []string{host, "GOOGLE_OAUTH_ACCESS_TOKEN=glmconv-canary-4711-other"}, false, source.ErrDenied, "GOOGLE_OAUTH_ACCESS_TOKEN"},
		{"no such bucket", "gs://other/m", []string{host}, true, source.ErrMissing, "does not exist (NoSuchBucket)"},
		{"empty prefix", "gs://bucket/n", []string{host}, true, source.ErrMissing, "holds no file"},
		{"no file", "gs://bucket/m", []string{host, gone + "/nowhere"}, false, source.ErrAddress, "/nowhere"},
		{"no JSON", "gs://bucket/m", []string{host, gone + file("a", "x")}, false, source.ErrAddress, "not JSON"},
		{"no key", "gs://bucket/m", []string{host, gone + file("b", `{"type": "service_account", "private_key": "glmconv-canary-4711"}`)}, false, source.ErrAddress, "no private key"},
		{"other kind", "gs://bucket/m", []string{host, gone + file("c", `{"type": "external_account"}`)}, false, source.ErrAddress, "external_account"},
		{"tokens over http", "gs://bucket/m", []string{host, gone + file("d", `{"type": "authorized_user", "token_uri": "http://example.com/token"}`)}, false, source.ErrAddress, "not https"},
		{"refused grant", "gs://bucket/m", []string{host, gone + file("e", `{"type": "authorized_user", "refresh_token": "glmconv-canary-4711", "token_uri": "`+gs.URL+`/token"}`)}, false, source.ErrDenied, "not taken"},
		{"endpoint over http", "gs://bucket/m", []string{"STORAGE_EMULATOR_HOST=http://example.com"}, false, source.ErrAddress, "STORAGE_EMULATOR_HOST"},

		{"signed query", "az://acct/models/m", az.Env(), false, nil, ""},
		{"application", "az://acct/models/m", az.Application(), false, nil, ""},
		{"federated application", "az://acct/models/m", []string{blob, "AZURE_AUTHORITY_HOST=" + az.Authority, "AZURE_TENANT_ID=tenant", "AZURE_CLIENT_ID=app", "AZURE_FEDERATED_TOKEN_FILE=" + link}, false, nil, ""},
		{"public", "az://acct/models/m", []string{blob}, true, nil, ""},
		{"private", "az://acct/models/m", []string{blob}, false, source.ErrDenied, "AZURE_STORAGE_SAS_TOKEN"},
		{"private, without the query that is there", "az://acct/models/m?anonymous=1", az.Env(), false, source.ErrDenied, "PublicAccessNotPermitted"},
		{"another signature", "az://acct/models/m", []string{blob, "AZURE_STORAGE_SAS_TOKEN=sig=glmconv-canary-4711x&se=1"}, false, source.ErrDenied, "AuthenticationFailed"},
		{"wrong secret", "az://acct/models/m", append(az.Application(), "AZURE_CLIENT_SECRET=glmconv-canary-4711"), false, source.ErrDenied, "not taken"},
		{"token of another", "az://acct/models/m", []string{blob, "AZURE_STORAGE_TOKEN=glmconv-canary-4711-other"}, false, source.ErrDenied, "InvalidAuthenticationInfo"},
		{"no such container", "az://acct/others/m", az.Env(), false, source.ErrMissing, "ContainerNotFound"},
		{"empty prefix", "az://acct/models/n", az.Env(), false, source.ErrMissing, "holds no file"},
		{"endpoint over http", "az://acct/models/m", []string{"AZURE_STORAGE_SERVICE_ENDPOINT=http://example.com"}, false, source.ErrAddress, "AZURE_STORAGE_SERVICE_ENDPOINT"},
	} {
		t.Run(test.address+" "+test.name, func(t *testing.T) {
			gs.Public, az.Public = test.public, test.public
			s, err := Open(t.Context(), test.address, quick(test.env...))
			if test.kind == nil {
				require.NoError(t, err)
				defer func() { _ = s.Close() }()
				list, err := s.List(t.Context())
				require.NoError(t, err)
				require.Len(t, list, 1, "what lies deeper is not listed, and no folder")
				raw, err := s.ReadSmall(t.Context(), "config.json", 100)
				require.NoError(t, err)
				assert.Equal(t, "{}", string(raw))
				assert.NotContains(t, s.Name(), "?")
				return
			}
			require.ErrorIs(t, err, test.kind)
			text := err.Error()
			if e, ok := err.(*source.Error); ok { //nolint:errorlint // its hint is shown as well
				text += e.Advice
			}
			assert.Contains(t, text, test.says)
			for _, secret := range []string{"canary", "sig=", "PRIVATE"} {
				assert.NotContains(t, text, secret)
			}
		})
	}
	o := quick(az.Env()...)
	o.Offline = true
	for _, address := range []string{"gs://bucket/m", "az://acct/models/m"} {
		_, err := Open(t.Context(), address, o)
		require.ErrorIs(t, err, source.ErrOffline)
	}
	var warned []string
	o = quick(blob, "AZURE_STORAGE_KEY=glmconv-canary-4711")
	o.Warn = func(text string) { warned = append(warned, text) }
	az.Public = true
	_, err := Open(t.Context(), "az://acct/models/m", o)
	require.NoError(t, err)
	require.Len(t, warned, 1)
	assert.NotContains(t, warned[0], "canary")
}

// TestListingBreaksOff: a page that says there is more, and not where, is refused;
// what lies behind it is not left out in silence.
func TestListingBreaksOff(t *testing.T) {
	page := `<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>m/config.json</Key><Size>2</Size><ETag>"x"</ETag></Contents></ListBucketResult>`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) }))
	defer srv.Close()
	for address, env := range map[string][]string{
		"gs://bucket/m":             {"STORAGE_EMULATOR_HOST=" + srv.URL},
		"s3://bucket/m?anonymous=1": {"AWS_ENDPOINT_URL_S3=" + srv.URL},
	} {
		s, err := Open(t.Context(), address, quick(env...))
		if err == nil {
			_, err = s.List(t.Context())
			_ = s.Close()
		}
		require.ErrorIs(t, err, source.ErrRefused, address)
	}
}

// configOf makes a folder as gcloud has it.
func configOf(t *testing.T, account string) string {
	dir := t.TempDir()
	raw, err := os.ReadFile(account)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "application_default_credentials.json"), raw, 0o600))
	return dir
}

// TestTokensEnd: a token that ends, or is revoked, while a source is read is
// replaced, and asked for no more often than that.
func TestTokensEnd(t *testing.T) {
	objects := map[string][]byte{}
	for _, n := range []string{"a", "b", "c", "d"} {
		objects["m/"+n+".json"] = []byte(n)
	}
	gs, az := fakegcs.New(t, "bucket", objects), fakeazure.New(t, "models", objects)
	for address, test := range map[string]struct {
		env    []string
		life   *time.Duration
		issued *int
		rules  *fakes.Rules
		revoke func()
	}{
		"gs://bucket/m":      {gs.Env(t), &gs.Life, &gs.Issued, gs.Rules, gs.Revoke},
		"az://acct/models/m": {az.Application(), &az.Life, &az.Issued, az.Rules, az.Revoke},
	} {
		t.Run(address, func(t *testing.T) {
			*test.life = time.Second
			s, err := Open(t.Context(), address, quick(test.env...))
			require.NoError(t, err)
			defer func() { _ = s.Close() }()
			read := func(name string) {
				raw, err := s.ReadSmall(t.Context(), name+".json", 10)
				require.NoError(t, err)
				assert.Equal(t, name, string(raw))
			}
			read("a")
			assert.Equal(t, 1, *test.issued)
			time.Sleep(600 * time.Millisecond) // half of its life: another is due
			read("b")
			assert.Equal(t, 2, *test.issued)
			test.revoke()
			read("c")
			assert.Equal(t, 3, *test.issued)
			test.rules.Lock()
			test.rules.Fail = func(r fakes.Request) fakes.Fault {
				if strings.HasSuffix(r.Path, "d.json") {
					return fakes.Expired
				}
				return fakes.None
			}
			test.rules.Unlock()
			_, err = s.ReadSmall(t.Context(), "d.json", 10)
			require.ErrorIs(t, err, source.ErrDenied)
			assert.Less(t, *test.issued, 6, "a refusal is believed in the end")
		})
	}
}

// TestAddressesOfStores is the grammar.
func TestAddressesOfStores(t *testing.T) {
	good := map[string]string{
		"gs://a_b.c/x/y/": "a_b.c x/y", "gs://abc": "abc ", "az://acct/models/x": "acct/models x", "az://acct/$root": "acct/$root ", "az://acct/a-b-c?anonymous=1": "acct/a-b-c ",
	}
	for _, text := range slices.Sorted(maps.Keys(good)) {
		a, err := parse(text, "")
		require.NoError(t, err, text)
		assert.Equal(t, good[text], a.id+" "+a.sub)
	}
	for _, text := range []string{"gs://", "gs://A/x", "gs://ab", "gs://abc/../x", "gs://abc?token=glmconv-canary", "az://acct", "az://acct/", "az://acct/UP/x", "az://a_b/models", "az://acct/a--b/x",
		"az://acct/models/x?sig=glmconv-canary", "az://acct/models//x"} {
		_, err := parse(text, "")
		require.ErrorIs(t, err, source.ErrAddress, text)
		assert.NotContains(t, err.Error(), "canary")
	}
}
