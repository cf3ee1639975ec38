package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/glmconv/glmconv/internal/fsx"
)

// profile takes the keys of a profile of the shared files: written there, or told
// by the program that it names.
func (e *environment) profile(ctx context.Context) (aws.Credentials, error) {
	name := e.get("AWS_PROFILE")
	values, err := e.section(name)
	if err != nil {
		return aws.Credentials{}, err
	}
	id, key := values["aws_access_key_id"], values["aws_secret_access_key"]
	switch {
	case id != "" && key != "":
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: key, SessionToken: values["aws_session_token"]}, nil
	case id != "" || key != "":
		return aws.Credentials{}, fmt.Errorf("profile %s has only one of aws_access_key_id and aws_secret_access_key", shown(name))
	case values["credential_process"] != "":
		return process(ctx, values["credential_process"])
	case values["sso_session"]+values["sso_start_url"]+values["role_arn"] != "":
		return aws.Credentials{}, fmt.Errorf("profile %s signs in by SSO or takes another role, which is not done here: "+
			`eval "$(aws configure export-credentials --profile %s --format env)" first`, shown(name), shown(name))
	}
	return aws.Credentials{}, errNone
}

func shown(profile string) string {
	if profile == "" {
		return "default"
	}
	return profile
}

// section returns what the shared files say of a profile, the credentials file
// first. Without a name it is "default", which need not exist.
func (e *environment) section(name string) (map[string]string, error) {
	values, found := map[string]string{}, false
	for _, f := range []struct{ path, prefix string }{
		{e.home("AWS_CONFIG_FILE", "config"), "profile "},
		{e.home("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ""},
	} {
		text, err := fsx.ReadRegular(f.path, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		title := f.prefix + shown(name)
		if shown(name) == "default" {
			title = "default"
		}
		found = readSection(string(text), title, values) || found
	}
	if !found && name != "" {
		return nil, fmt.Errorf("there is no profile %q in the shared files of AWS (AWS_PROFILE)", name)
	}
	return values, nil
}

// readSection adds the values of a section of an INI file. Lines that belong to a
// nested setting are skipped.
func readSection(text, title string, values map[string]string) (found bool) {
	inside := false
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(trimmed, "["); ok {
			name, _, _ := strings.Cut(rest, "]")
			inside = strings.Join(strings.Fields(name), " ") == title
			found = found || inside
			continue
		}
		if !inside || trimmed == "" || strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";") || line[0] == ' ' || line[0] == '\t' {
			continue
		}
		if key, value, ok := strings.Cut(trimmed, "="); ok {
			values[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		}
	}
	return found
}

// process runs the program that a profile names (credential_process).
func process(ctx context.Context, line string) (aws.Credentials, error) {
	args := strings.Fields(line)
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("credential_process: %w: %.200s", err, errs.String())
	}
	var told struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      time.Time
	}
	if err := json.Unmarshal(out, &told); err != nil || told.AccessKeyID == "" || told.SecretAccessKey == "" {
		return aws.Credentials{}, errors.New("credential_process: the answer has no keys in JSON")
	}
	return aws.Credentials{AccessKeyID: told.AccessKeyID, SecretAccessKey: told.SecretAccessKey, SessionToken: told.SessionToken,
		CanExpire: !told.Expiration.IsZero(), Expires: told.Expiration}, nil
}
