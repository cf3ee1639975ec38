package s3

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const laterText = "2099-01-02T03:04:05Z"

// services answers as STS, a container's service and a machine's do.
func services(t *testing.T) *httptest.Server {
	role := `{"Code":"Success","AccessKeyId":"role-id","SecretAccessKey":"role-key","Token":"role-token","Expiration":"` + laterText + `"}`
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sts/", func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "AssumeRoleWithWebIdentity", r.PostFormValue("Action"))
		assert.Equal(t, "the token", r.PostFormValue("WebIdentityToken"))
		assert.Equal(t, "arn:aws:iam::1:role/r", r.PostFormValue("RoleArn"))
		_, _ = w.Write([]byte(`<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><SessionToken>web-token</SessionToken>` +
			`<SecretAccessKey>web-key</SecretAccessKey><Expiration>` + laterText + `</Expiration><AccessKeyId>web-id</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`))
	})
	mux.HandleFunc("GET /container", func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "Bearer pod", r.Header.Get("Authorization"))
		_, _ = w.Write([]byte(role))
	})
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		assert.NotEmpty(t, r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
		_, _ = w.Write([]byte("imds"))
	})
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/{name...}", func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "imds", r.Header.Get("X-Aws-Ec2-Metadata-Token"))
		if r.PathValue("name") == "" {
			_, _ = w.Write([]byte("my-role\n"))
			return
		}
		assert.Equal(t, "my-role", r.PathValue("name"))
		_, _ = w.Write([]byte(role))
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

func TestEnvironment(t *testing.T) {
	srv := services(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, []byte(text), 0o600))
		return p
	}
	shared := write("credentials", "# comment\n[default]\naws_access_key_id = file-id\naws_secret_access_key=file=key\n\n[ other ]\naws_access_key_id=other-id\naws_secret_access_key=other-key\naws_session_token = tok\n"+
		"[half]\naws_access_key_id=x\n[overlaid]\naws_secret_access_key=mine\n")
	config := write("config", "[default]\nregion=eu-west-1\ns3 =\n  aws_access_key_id = nested\n[profile overlaid]\naws_access_key_id=conf-id\naws_secret_access_key=conf-key\n"+
		"[profile sso]\nsso_session = s\n[profile asked]\ncredential_process = "+write("tool", "#!/bin/sh\necho '{\"Version\":1,\"AccessKeyId\":\"asked-id\",\"SecretAccessKey\":\"asked-key\",\"Expiration\":\""+laterText+"\"}'\n")+" now\n"+
		"[profile failing]\ncredential_process = /bin/sh -c false\n")
	require.NoError(t, os.Chmod(filepath.Join(dir, "tool"), 0o700))
	token, pod := write("token", "the token\n"), write("pod", "Bearer pod\n")
	for _, tc := range []struct {
		name, env, want, err string
	}{
		{name: "nothing", want: ""},
		{name: "variables", env: "AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_SESSION_TOKEN=c AWS_SHARED_CREDENTIALS_FILE=" + shared, want: "a b c"},
		{name: "one variable is none", env: "AWS_ACCESS_KEY_ID=a", want: ""},
		{name: "default profile", env: "AWS_SHARED_CREDENTIALS_FILE=" + shared + " AWS_CONFIG_FILE=" + config, want: "file-id file=key "},
		{name: "a profile", env: "AWS_PROFILE=other AWS_SHARED_CREDENTIALS_FILE=" + shared, want: "other-id other-key tok"},
		{name: "a profile in both files", env: "AWS_PROFILE=overlaid AWS_SHARED_CREDENTIALS_FILE=" + shared + " AWS_CONFIG_FILE=" + config, want: "conf-id mine "},
		{name: "half a profile", env: "AWS_PROFILE=half AWS_SHARED_CREDENTIALS_FILE=" + shared, err: "only one of"},
		{name: "a profile that is not there", env: "AWS_PROFILE=none AWS_SHARED_CREDENTIALS_FILE=" + shared, err: `no profile "none"`},
		{name: "SSO", env: "AWS_PROFILE=sso AWS_CONFIG_FILE=" + config, err: "export-credentials --profile sso"},
		{name: "a program", env: "AWS_PROFILE=asked AWS_CONFIG_FILE=" + config, want: "asked-id asked-key "},
		{name: "a program that fails", env: "AWS_PROFILE=failing AWS_CONFIG_FILE=" + config, err: "credential_process"},
		{name: "web identity", env: "AWS_WEB_IDENTITY_TOKEN_FILE=" + token + " AWS_ROLE_ARN=arn:aws:iam::1:role/r AWS_ENDPOINT_URL_STS=" + srv.URL + "/sts", want: "web-id web-key web-token"},
		{name: "container", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=" + srv.URL + "/container AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + pod, want: "role-id role-key role-token"},
		{name: "container elsewhere", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://192.0.2.1/container", err: "neither https nor"},
		{name: "machine", env: "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + srv.URL, want: "role-id role-key role-token"},
		{name: "machine, switched off", env: "AWS_EC2_METADATA_DISABLED=true AWS_EC2_METADATA_SERVICE_ENDPOINT=" + srv.URL, want: ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := map[string]string{"HOME": filepath.Join(dir, "nobody")}
			for f := range strings.FieldsSeq(tc.env) {
				k, v, _ := strings.Cut(f, "=")
				env[k] = v
			}
			got, err := Environment(func(k string) string { return env[k] }, http.DefaultTransport).get(t.Context())
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				assert.NotContains(t, err.Error(), "key=")
				return
			}
			require.NoError(t, err)
			if tc.want == "" {
				assert.Empty(t, got.AccessKeyID)
				return
			}
			assert.Equal(t, tc.want, got.AccessKeyID+" "+got.SecretAccessKey+" "+got.SessionToken)
		})
	}
}

// TestFilesOfKeys: what is no file, or too large for one of keys, is an error and
// never a wait.
func TestFilesOfKeys(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, nil, 0o600))
	require.NoError(t, os.Truncate(large, maxFile+1))
	for _, path := range []string{dir, large, "/dev/zero"} {
		env := map[string]string{"AWS_SHARED_CREDENTIALS_FILE": path, "HOME": dir, "AWS_EC2_METADATA_DISABLED": "true"}
		_, err := Environment(func(name string) string { return env[name] }, http.DefaultTransport).get(t.Context())
		require.Error(t, err, path)
		assert.Contains(t, err.Error(), path)
	}
}

// TestKeysAreRenewed before they expire, and asked for once until then.
func TestKeysAreRenewed(t *testing.T) {
	now, asked := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /c", func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = w.Write([]byte(`{"AccessKeyId":"i","SecretAccessKey":"s","Token":"t","Expiration":"` + now.Add(time.Hour).Format(time.RFC3339) + `"}`))
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	env := map[string]string{"HOME": t.TempDir(), "AWS_CONTAINER_CREDENTIALS_FULL_URI": srv.URL + "/c"}
	k := Environment(func(n string) string { return env[n] }, http.DefaultTransport)
	k.now = func() time.Time { return now }
	for _, step := range []struct {
		after time.Duration
		asked int
	}{{0, 1}, {50 * time.Minute, 1}, {6 * time.Minute, 2}, {time.Minute, 2}} {
		now = now.Add(step.after)
		_, err := k.get(t.Context())
		require.NoError(t, err)
		assert.Equal(t, step.asked, asked)
	}
	srv.Close()
	now = now.Add(2 * time.Hour)
	_, err := k.get(t.Context())
	assert.ErrorContains(t, err, "the role of the container")
}
