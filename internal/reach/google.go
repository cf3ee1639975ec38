package reach

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/glmconv/glmconv/source"
)

const (
	googleStorage = "https://storage.googleapis.com"
	googleScope   = "https://www.googleapis.com/auth/devstorage.read_only"
	googleHint    = "for a private bucket: gcloud auth application-default login, GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_OAUTH_ACCESS_TOKEN"
)

// openGoogle reads a prefix of a bucket of Google Cloud Storage by its XML
// interface. An object is read at the generation that was listed.
func openGoogle(ctx context.Context, c *client, a address) (*Source, error) {
	endpoint := googleStorage
	if e := c.o.first("STORAGE_EMULATOR_HOST"); e != "" {
		if endpoint = e; !strings.Contains(e, "://") {
			endpoint = "http://" + e
		}
	}
	o, err := newObjects(c, a, endpoint, "STORAGE_EMULATOR_HOST", a.id)
	if err != nil {
		return nil, err
	}
	o.hint = googleHint
	o.dress = func(f *file, h http.Header) {
		if f.etag != "" {
			h.Set("X-Goog-If-Generation-Match", f.etag)
		}
	}
	if err := googleTokens(a, o.tokens); err != nil {
		return nil, err
	}
	return o.open(ctx, o.googlePage)
}

func (o *objects) googlePage(ctx context.Context, from string) (files []*file, next string, err error) {
	q := url.Values{"list-type": {"2"}, "delimiter": {"/"}}
	for k, v := range map[string]string{"prefix": o.prefix, "continuation-token": from} {
		if v != "" {
			q.Set(k, v)
		}
	}
	var list struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string
		Contents              []struct {
			Key, Generation, ETag string
			Size                  int64
		}
	}
	if err := o.xml(ctx, o.base+"?"+q.Encode(), &list); err != nil {
		return nil, "", err
	}
	for _, e := range list.Contents {
		if f := o.object(e.Key, e.Size); f != nil {
			f.etag, f.Version = e.Generation, e.Generation
			if f.Version == "" {
				f.Version = "weak: " + e.ETag
			}
			files = append(files, f)
		}
	}
	if !list.IsTruncated {
		return files, "", nil
	}
	if list.NextContinuationToken == "" {
		return nil, "", &source.Error{Kind: source.ErrRefused, Where: o.name, Reason: "has a listing that breaks off: it says that there is more, and not where"}
	}
	return files, list.NextContinuationToken, nil
}

// googleTokens finds credentials as Google's own clients do: a token, the file
// that a variable names, the one that gcloud has written, the service of a machine
// of theirs. Without any, what is public can be read.
func googleTokens(a address, t *tokens) error {
	o := &t.c.o
	if a.anonymous() {
		return nil
	}
	if t.fixed = o.first("GOOGLE_OAUTH_ACCESS_TOKEN", "CLOUDSDK_AUTH_ACCESS_TOKEN"); t.fixed != "" {
		return nil
	}
	if path := o.first("GOOGLE_APPLICATION_CREDENTIALS"); path != "" {
		raw, err := secret(path)
		if err != nil {
			return err
		}
		return googleFile(t, path, raw)
	}
	dir := o.first("CLOUDSDK_CONFIG")
	if home := o.first("HOME"); dir == "" && home != "" {
		dir = filepath.Join(home, ".config", "gcloud")
	}
	if dir != "" {
		path := filepath.Join(dir, "application_default_credentials.json")
		if raw, err := secret(path); err == nil {
			return googleFile(t, path, raw)
		}
	}
	host := o.first("GCE_METADATA_HOST")
	if host == "" && !firmware("product_name", "Google") {
		return nil
	}
	if host == "" {
		host = "169.254.169.254"
	}
	t.brief = true
	t.make = func(ctx context.Context) (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/computeMetadata/v1/instance/service-accounts/default/token", nil)
		if err == nil {
			r.Header.Set("Metadata-Flavor", "Google")
		}
		return r, err
	}
	return nil
}

// googleFile makes tokens of a file of credentials.
func googleFile(t *tokens, path string, raw []byte) error {
	var f struct {
		Type    string `json:"type"`
		Email   string `json:"client_email"`
		Key     string `json:"private_key"`
		KeyID   string `json:"private_key_id"`
		URI     string `json:"token_uri"`
		ID      string `json:"client_id"`
		Secret  string `json:"client_secret"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return &source.Error{Kind: source.ErrAddress, Where: path, Reason: "is not JSON"}
	}
	if f.URI == "" {
		f.URI = "https://oauth2.googleapis.com/token"
	}
	switch f.Type {
	case "service_account":
		key, err := rsaKey(f.Key)
		if err != nil {
			return &source.Error{Kind: source.ErrAddress, Where: path, Reason: "has no private key that can be used"}
		}
		t.make = func(ctx context.Context) (*http.Request, error) {
			claim, err := assertion(key, f.KeyID, f.Email, f.URI, time.Now())
			if err != nil {
				return nil, err
			}
			return form(ctx, f.URI, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {claim}})
		}
	case "authorized_user":
		t.make = func(ctx context.Context) (*http.Request, error) {
			return form(ctx, f.URI, url.Values{"grant_type": {"refresh_token"}, "client_id": {f.ID}, "client_secret": {f.Secret}, "refresh_token": {f.Refresh}})
		}
	default:
		return &source.Error{Kind: source.ErrAddress, Where: path, Reason: fmt.Sprintf("has credentials of the kind %.40q, which are not read", f.Type),
			Advice: "export GOOGLE_OAUTH_ACCESS_TOKEN=$(gcloud auth print-access-token)"}
	}
	return nil
}

// rsaKey reads a private key in PEM, PKCS #8 or PKCS #1.
func rsaKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM")
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if key, ok := key.(*rsa.PrivateKey); ok {
			return key, nil
		}
	}
	return x509.ParsePKCS1PrivateKey(block.Bytes)
}

// assertion is a JSON Web Token (RFC 7523) by which a service account asks for a
// token, signed with RS256.
func assertion(key *rsa.PrivateKey, id, email, audience string, now time.Time) (string, error) {
	head, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": id})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]any{"iss": email, "scope": googleScope, "aud": audience, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), err
}
