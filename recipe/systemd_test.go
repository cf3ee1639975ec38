package recipe

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

var commandLine = regexp.MustCompile(`(?m)^\s*Command Line: (.*)$`)

// unitWords holds a unit against systemd's own parser, and is the words that it
// starts.
func unitWords(t *testing.T, f File) []string {
	t.Helper()
	analyze := testkit.Tool(t, "systemd-analyze", "units are not verified")
	path := filepath.Join(t.TempDir(), f.Name)
	require.NoError(t, os.WriteFile(path, f.Data, 0o600))
	said, err := exec.Command(analyze, "verify", path).CombinedOutput()
	require.NoError(t, err, "%s\n%s", said, f.Data)
	require.Empty(t, string(said), "%s", f.Data)

	cmd := exec.Command(analyze, "verify", path)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=debug")
	var dump bytes.Buffer
	cmd.Stdout = &dump
	require.NoError(t, cmd.Run())
	line := commandLine.FindSubmatch(dump.Bytes())
	require.NotNil(t, line, "%s", dump.String())
	// the dump quotes words as a shell reads them; $$ becomes $ when they are started
	out, err := exec.Command(testkit.Tool(t, "bash", "words of units are not read"), "-c", `printf '%s\n' `+string(line[1])).Output()
	require.NoError(t, err, "%s", line[1])
	return strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(out), "$$", "$"), "\n"), "\n")
}

// TestUnits: systemd starts the words that were decided, names from outside and all,
// with the folder by its whole path.
func TestUnits(t *testing.T) {
	for _, e := range []string{"vllm", "sglang"} {
		for _, name := range append([]string{"plain", "serve", ";"}, evil...) {
			m := *preset(t, "glm-4.5-air", "", "")
			m.Path = name
			r, err := Decide(Query{Model: &m, Release: release(t, e), Hardware: machines(t, "h200:4"), MTP: 0, ServedName: name})
			require.NoError(t, err)
			files, err := r.Files("systemd")
			require.NoError(t, err)
			require.Len(t, files, 2)
			whole, err := filepath.Abs(name)
			require.NoError(t, err)
			want := append([]string{"/usr/bin/env"}, r.Nodes[0].Argv...)
			at := 3
			if e == "sglang" {
				at = slices.Index(want, "--model-path") + 1
			}
			require.Equal(t, name, want[at])
			want[at] = whole
			assert.Equal(t, want, unitWords(t, files[0]), "%s %q", e, name)
		}
	}
}

// TestUnitsOfPairs: scripts of nodes with several servers and the router are among
// the files, and read what their environment files name.
func TestUnitsOfPairs(t *testing.T) {
	r := pairOf(t, "vllm-ascend", "ascend-a3:16", Group{2, 16}, Group{4, 16})
	files, err := r.Files("systemd")
	require.NoError(t, err)
	byName := map[string]File{}
	for _, f := range files {
		byName[f.Name] = f
	}
	require.Len(t, byName, 6*3+2)
	for _, f := range files {
		if !strings.HasSuffix(f.Name, ".service") {
			continue
		}
		words := unitWords(t, f)
		env, ok := byName[strings.TrimSuffix(strings.TrimPrefix(f.Name, "glm-"), ".service")+".env"]
		require.True(t, ok, f.Name)
		assert.Contains(t, string(f.Data), "EnvironmentFile=/etc/glm/"+env.Name+"\n")
		if strings.Contains(f.Name, "router") {
			assert.Equal(t, append([]string{"/usr/bin/env", "-u", "http_proxy", "-u", "https_proxy"}, r.Router.Argv...), words)
			continue
		}
		script, ok := byName[strings.TrimPrefix(words[2], "/etc/glm/")]
		require.True(t, ok, words)
		bash(t, string(script.Data))
		assert.NotContains(t, string(script.Data), " glm-5", "the folder by its whole path")
		for _, v := range regexp.MustCompile(`\$\{(\w+):[?]`).FindAllStringSubmatch(string(script.Data), -1) {
			assert.Contains(t, string(env.Data), "\n"+v[1]+"=", f.Name)
		}
	}
}

// TestRouterBesideAFolderOfItsName: the router reads no folder: none is put in place of
// its own words.
func TestRouterBesideAFolderOfItsName(t *testing.T) {
	r := pairOf(t, "vllm-ascend", "ascend-a3:16", Group{2, 16}, Group{4, 16})
	r.Query.Model.Path = "python3"
	files := r.units()
	at := slices.IndexFunc(files, func(f File) bool { return strings.Contains(f.Name, "router") && strings.HasSuffix(f.Name, ".service") })
	require.GreaterOrEqual(t, at, 0)
	assert.Contains(t, string(files[at].Data), "https_proxy \\\n  python3 \\\n")
}

// TestDamagedUnits: what is wrong is told from what is right.
func TestDamagedUnits(t *testing.T) {
	analyze := testkit.Tool(t, "systemd-analyze", "units are not verified")
	r, err := Decide(Query{Model: preset(t, "glm-4.5-air", "", ""), Release: release(t, "vllm"), Hardware: machines(t, "h200:4"), MTP: 0})
	require.NoError(t, err)
	text, err := r.Render("systemd")
	require.NoError(t, err)
	for from, to := range map[string]string{"LimitMEMLOCK=": "LimitMEMLOCKED=", "TimeoutStartSec=": "TimeoutStartSec=soon", "Type=exec": "Type=execute", "ExecStart=/usr/bin/env": "ExecStart=/usr/bin/none"} {
		require.Contains(t, text, from)
		path := filepath.Join(t.TempDir(), "glm.service")
		require.NoError(t, os.WriteFile(path, []byte(strings.Replace(text, from, to, 1)), 0o600))
		said, _ := exec.Command(analyze, "verify", path).CombinedOutput()
		assert.NotEmpty(t, string(said), to)
	}
}
