package reach

import (
	"context"
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"

	"github.com/glmconv/glmconv/source"
)

const (
	azureVersion = "2021-12-02" // of the service, which every request names
	azureHint    = "for a private container: AZURE_STORAGE_SAS_TOKEN (with read and list), AZURE_STORAGE_TOKEN, or AZURE_TENANT_ID and AZURE_CLIENT_ID"
)

// openAzure reads a prefix of a container of Azure Blob Storage. A blob is read
// under the entity tag that was listed.
func openAzure(ctx context.Context, c *client, a address) (*Source, error) {
	account, container, _ := strings.Cut(a.id, "/")
	endpoint := "https://" + account + ".blob.core.windows.net"
	if e := c.o.first("AZURE_STORAGE_SERVICE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"); e != "" {
		endpoint = e
	}
	o, err := newObjects(c, a, endpoint, "AZURE_STORAGE_SERVICE_ENDPOINT", container)
	if err != nil {
		return nil, err
	}
	o.hint, o.match = azureHint, true
	o.header = http.Header{"X-Ms-Version": {azureVersion}}
	o.dress = func(_ *file, h http.Header) {
		if r := h.Get("Range"); r != "" {
			h.Del("Range")
			h.Set("X-Ms-Range", r)
		}
	}
	if sas := strings.TrimPrefix(c.o.first("AZURE_STORAGE_SAS_TOKEN"), "?"); sas != "" && !a.anonymous() {
		if _, err := url.ParseQuery(sas); err != nil {
			return nil, &source.Error{Kind: source.ErrAddress, Where: "AZURE_STORAGE_SAS_TOKEN", Reason: "is no query"}
		}
		o.query = "?" + sas
	} else {
		azureTokens(a, o.tokens)
	}
	return o.open(ctx, o.azurePage)
}

func (o *objects) azurePage(ctx context.Context, from string) (files []*file, next string, err error) {
	q := url.Values{"restype": {"container"}, "comp": {"list"}, "delimiter": {"/"}}
	for k, v := range map[string]string{"prefix": o.prefix, "marker": from} {
		if v != "" {
			q.Set(k, v)
		}
	}
	address := o.base + "?" + q.Encode()
	if o.query != "" {
		address += "&" + o.query[1:]
	}
	var list struct {
		XMLName xml.Name `xml:"EnumerationResults"`
		Blobs   struct {
			Blob []struct {
				Name       string
				Properties struct {
					Size int64  `xml:"Content-Length"`
					ETag string `xml:"Etag"`
					Type string `xml:"ResourceType"` // of hierarchical namespaces
				}
			}
		}
		NextMarker string
	}
	if err := o.xml(ctx, address, &list); err != nil {
		return nil, "", err
	}
	for _, e := range list.Blobs.Blob {
		if f := o.object(e.Name, e.Properties.Size); f != nil && e.Properties.Type != "directory" {
			if tag := strings.Trim(e.Properties.ETag, `"`); tag != "" {
				f.etag, f.Version = `"`+tag+`"`, `"`+tag+`"`
			}
			files = append(files, f)
		}
	}
	return files, list.NextMarker, nil
}

// azureTokens finds credentials of Entra: a token, a federated one or a secret of
// an application, the service of a machine of theirs. Without any, what is public
// can be read.
func azureTokens(a address, t *tokens) {
	o := &t.c.o
	if a.anonymous() {
		return
	}
	if t.fixed = o.first("AZURE_STORAGE_TOKEN"); t.fixed != "" {
		return
	}
	tenant, id := o.first("AZURE_TENANT_ID"), o.first("AZURE_CLIENT_ID")
	federated, password := o.first("AZURE_FEDERATED_TOKEN_FILE"), o.first("AZURE_CLIENT_SECRET")
	switch {
	case tenant != "" && id != "" && (federated != "" || password != ""):
		authority := o.first("AZURE_AUTHORITY_HOST")
		if authority == "" {
			authority = "https://login.microsoftonline.com"
		}
		t.make = func(ctx context.Context) (*http.Request, error) {
			values := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "scope": {"https://storage.azure.com/.default"}}
			if federated != "" { // which is written anew while we run
				raw, err := secret(federated)
				if err != nil {
					return nil, err
				}
				values.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
				values.Set("client_assertion", strings.TrimSpace(string(raw)))
			} else {
				values.Set("client_secret", password)
			}
			return form(ctx, strings.TrimRight(authority, "/")+"/"+url.PathEscape(tenant)+"/oauth2/v2.0/token", values)
		}
	case firmware("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"): // a machine of Azure
		q := url.Values{"api-version": {"2018-02-01"}, "resource": {"https://storage.azure.com/"}}
		if id != "" {
			q.Set("client_id", id)
		}
		t.brief = true
		t.make = func(ctx context.Context) (*http.Request, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://169.254.169.254/metadata/identity/oauth2/token?"+q.Encode(), nil)
			if err == nil {
				r.Header.Set("Metadata", "true")
			}
			return r, err
		}
	case o.first("AZURE_STORAGE_KEY", "AZURE_STORAGE_CONNECTION_STRING") != "":
		o.Warn("keys of accounts (AZURE_STORAGE_KEY, AZURE_STORAGE_CONNECTION_STRING) are not used: make a SAS token of yours, AZURE_STORAGE_SAS_TOKEN")
	}
}
