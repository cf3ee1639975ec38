package archtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNoNetworkOutsideReach: no package of ours uses the network but
// internal/reach, which the command calls for arguments that are addresses, and
// those whose work it is: bench and verify/endpoint ask a server, serve is one, for
// which the command listens. A run of any other command on local folders cannot call anywhere. (recipe uses
// package net to spell addresses.) (The progress bar's library links
// net/http and asks nobody.)
func TestNoNetworkOutsideReach(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Greater(t, len(lines), 20)
	for _, line := range lines {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[0], module)
		for _, imp := range words[1:] {
			assert.False(t, strings.HasPrefix(imp, "github.com/aws/") && pkg != "internal/reach/s3", "%s uses %s", pkg, imp)
		}
		if slices.ContainsFunc([]string{"internal/reach", "internal/fakes", "bench", "serve", "verify/endpoint", "cmd/glmconv"}, func(p string) bool {
			return pkg == p || strings.HasPrefix(pkg, p+"/")
		}) {
			continue
		}
		for _, imp := range []string{"net", "net/http", "crypto/tls"} {
			assert.False(t, slices.Contains(words[1:], imp) && (pkg != "recipe" || imp != "net"), "%s uses %s", pkg, imp)
		}
	}
}
