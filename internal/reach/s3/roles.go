package s3

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/glmconv/glmconv/internal/fsx"
)

// Where containers and machines learn their role.
const (
	containerHost = "http://169.254.170.2"
	instanceHost  = "http://169.254.169.254"
)

// webIdentity exchanges the token of a Kubernetes service account, or of another
// provider, for keys (AssumeRoleWithWebIdentity).
func (e *environment) webIdentity(ctx context.Context) (aws.Credentials, error) {
	file, role := e.get("AWS_WEB_IDENTITY_TOKEN_FILE"), e.get("AWS_ROLE_ARN")
	if file == "" || role == "" {
		return aws.Credentials{}, errNone
	}
	token, err := fsx.ReadRegular(file, maxFile)
	if err != nil {
		return aws.Credentials{}, err
	}
	session := e.get("AWS_ROLE_SESSION_NAME")
	if session == "" {
		session = "glmconv-" + strconv.FormatInt(time.Now().UnixNano(), 10)
	}
	endpoint := e.get("AWS_ENDPOINT_URL_STS")
	if endpoint == "" {
		endpoint = "https://sts.amazonaws.com"
		if region := e.get("AWS_REGION"); region != "" {
			endpoint = "https://sts." + region + "." + domain(region)
		}
	}
	form := url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {role}, "RoleSessionName": {session},
		"WebIdentityToken": {strings.TrimSpace(string(token))}}
	text, err := ask(ctx, e.secure, http.MethodPost, strings.TrimSuffix(endpoint, "/")+"/", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, form.Encode())
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("the role of a web identity: %w", err)
	}
	var answer struct {
		Result struct {
			Credentials struct {
				AccessKeyId, SecretAccessKey, SessionToken string
				Expiration                                 time.Time
			}
		} `xml:"AssumeRoleWithWebIdentityResult"`
	}
	if err := xml.Unmarshal(text, &answer); err != nil || answer.Result.Credentials.AccessKeyId == "" {
		return aws.Credentials{}, errors.New("the role of a web identity: the answer has no keys")
	}
	c := answer.Result.Credentials
	return aws.Credentials{AccessKeyID: c.AccessKeyId, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken,
		CanExpire: !c.Expiration.IsZero(), Expires: c.Expiration}, nil
}

// container asks for the role of a task of ECS or a pod of EKS.
func (e *environment) container(ctx context.Context) (aws.Credentials, error) {
	address := e.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if rel := e.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); rel != "" {
		address = containerHost + rel
	}
	if address == "" {
		return aws.Credentials{}, errNone
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && !near(u.Hostname()) {
		return aws.Credentials{}, errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor an address of this machine")
	}
	h, token := http.Header{}, e.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	if f := e.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); f != "" {
		text, err := fsx.ReadRegular(f, maxFile)
		if err != nil {
			return aws.Credentials{}, err
		}
		token = strings.TrimSpace(string(text))
	}
	if token != "" {
		h.Set("Authorization", token)
	}
	text, err := ask(ctx, e.local, http.MethodGet, address, h, "")
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("the role of the container: %w", err)
	}
	return roleKeys(text, "the role of the container")
}

// near reports whether an address is of this machine or its host: loopback, and
// the two that ECS and EKS have for this.
func near(host string) bool {
	if host == "localhost" || host == "169.254.170.2" || host == "169.254.170.23" || host == "fd00:ec2::23" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// instance asks for the role of a machine of EC2. Elsewhere nobody is asked.
func (e *environment) instance(ctx context.Context) (aws.Credentials, error) {
	host := strings.TrimSuffix(e.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "/")
	if strings.EqualFold(e.get("AWS_EC2_METADATA_DISABLED"), "true") || host == "" && !e.onInstance() {
		return aws.Credentials{}, errNone
	}
	if host == "" {
		host = instanceHost
	}
	fail := func(err error) (aws.Credentials, error) {
		return aws.Credentials{}, fmt.Errorf("the role of the machine: %w", err)
	}
	token, err := ask(ctx, e.local, http.MethodPut, host+"/latest/api/token", http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"21600"}}, "")
	if err != nil {
		return fail(err)
	}
	h, roles := http.Header{"X-Aws-Ec2-Metadata-Token": {string(token)}}, host+"/latest/meta-data/iam/security-credentials/"
	list, err := ask(ctx, e.local, http.MethodGet, roles, h, "")
	var refused *statusError
	if errors.As(err, &refused) && refused.code == http.StatusNotFound {
		return aws.Credentials{}, errNone // a machine without a role
	} else if err != nil {
		return fail(err)
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(list)), "\n")
	text, err := ask(ctx, e.local, http.MethodGet, roles+url.PathEscape(strings.TrimSpace(name)), h, "")
	if err != nil {
		return fail(err)
	}
	return roleKeys(text, "the role of the machine")
}

// onInstance reports whether this looks like a machine of EC2, by its firmware.
func (e *environment) onInstance() bool {
	b, err := os.ReadFile(e.vendor)
	return err == nil && strings.HasPrefix(string(b), "Amazon")
}

// roleKeys reads the answer of a container's or a machine's service.
func roleKeys(text []byte, what string) (aws.Credentials, error) {
	var c struct {
		AccessKeyId, SecretAccessKey, Token string
		Expiration                          time.Time
	}
	if err := json.Unmarshal(text, &c); err != nil || c.AccessKeyId == "" || c.SecretAccessKey == "" {
		return aws.Credentials{}, fmt.Errorf("%s: the answer has no keys", what)
	}
	return aws.Credentials{AccessKeyID: c.AccessKeyId, SecretAccessKey: c.SecretAccessKey, SessionToken: c.Token,
		CanExpire: !c.Expiration.IsZero(), Expires: c.Expiration}, nil
}

// statusError is an answer that is none of success.
type statusError struct {
	host string
	code int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answers %d %s", e.host, e.code, http.StatusText(e.code))
}

// ask sends a request that has nothing to do with a bucket and returns its answer.
func ask(ctx context.Context, c *http.Client, method, address string, header http.Header, body string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header = header
	res, err := c.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, fmt.Errorf("%s: %w", r.URL.Host, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = &statusError{r.URL.Host, res.StatusCode}
	}
	return text, err
}
