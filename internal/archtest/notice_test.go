package archtest

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var noticed = regexp.MustCompile(`(?m)^  (\S+\.\S+/\S+) (v\S+)$`)

// TestNoticeNamesEveryModule: NOTICE has the modules whose code is in the binary,
// in the versions of go.mod, no other, and a licence of each (make notice).
func TestNoticeNamesEveryModule(t *testing.T) {
	raw, err := os.ReadFile("../../NOTICE")
	require.NoError(t, err)
	listed := map[string]string{}
	for _, m := range noticed.FindAllSubmatch(raw, -1) {
		listed[string(m[1])] = string(m[2])
		assert.Contains(t, string(raw), "\n"+string(m[1])+"\n", "no licence text of %s", m[1])
	}
	linked := map[string]string{}
	for _, system := range []string{"linux", "darwin"} {
		for _, arch := range []string{"amd64", "arm64"} {
			cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", module+"cmd/glmconv")
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch)
			out, err := cmd.Output()
			require.NoError(t, err)
			for line := range strings.Lines(string(out)) {
				if path, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
					linked[path] = version
				}
			}
		}
	}
	require.Greater(t, len(linked), 10)
	assert.Equal(t, linked, listed)
}
