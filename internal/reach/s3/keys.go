package s3

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Keys are credentials, renewed before they expire. Several goroutines may use
// them.
type Keys struct {
	find []finder
	now  func() time.Time

	mu    sync.Mutex
	have  aws.Credentials
	ready bool
}

// finder looks in one place; errNone if there is nothing.
type finder func(ctx context.Context) (aws.Credentials, error)

var errNone = errors.New("no credentials")

// maxFile bounds a file of credentials.
const maxFile = 1 << 20

// margin is how long before their end keys are renewed.
const margin = 5 * time.Minute

// Environment returns the keys that the environment names, as the tools of AWS
// look for them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; else the profile
// AWS_PROFILE of the shared files; else a web identity, a container's role, and the
// role of a machine of EC2. Without any, requests are not signed. secure sends
// requests to services of AWS.
func Environment(getenv func(string) string, secure http.RoundTripper) *Keys {
	e := &environment{get: getenv, secure: &http.Client{Transport: secure, Timeout: 10 * time.Second},
		local: &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Second}, vendor: "/sys/class/dmi/id/sys_vendor"}
	return &Keys{find: []finder{e.variables, e.profile, e.webIdentity, e.container, e.instance}, now: time.Now}
}

// environment is where keys are looked for.
type environment struct {
	get    func(string) string
	secure *http.Client
	local  *http.Client // to addresses of the machine itself, never by a proxy
	vendor string       // file with the maker of the machine
}

// get returns keys that live for a while yet.
func (k *Keys) get(ctx context.Context) (aws.Credentials, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ready && (!k.have.CanExpire || k.have.Expires.Sub(k.now()) > margin) {
		return k.have, nil
	}
	for _, find := range k.find {
		got, err := find(ctx)
		if errors.Is(err, errNone) {
			continue
		}
		if err != nil {
			return aws.Credentials{}, err
		}
		k.have, k.ready = got, true
		return got, nil
	}
	k.have, k.ready = aws.Credentials{}, true
	return k.have, nil
}

func (e *environment) variables(context.Context) (aws.Credentials, error) {
	id, key := e.get("AWS_ACCESS_KEY_ID"), e.get("AWS_SECRET_ACCESS_KEY")
	if id == "" || key == "" {
		return aws.Credentials{}, errNone
	}
	return aws.Credentials{AccessKeyID: id, SecretAccessKey: key, SessionToken: e.get("AWS_SESSION_TOKEN")}, nil
}

// home returns the place of a shared file.
func (e *environment) home(variable, name string) string {
	if f := e.get(variable); f != "" {
		return f
	}
	dir := e.get("HOME")
	if dir == "" {
		dir, _ = os.UserHomeDir() // "": there is none, and so no file
	}
	return filepath.Join(dir, ".aws", name)
}
