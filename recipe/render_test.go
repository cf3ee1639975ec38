package recipe

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// bash checks the syntax of scripts with the shell itself.
func bash(t *testing.T, text string) {
	t.Helper()
	sh, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash on this machine: syntax of scripts not checked")
	}
	cmd := exec.Command(sh, "-n")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", out, text)
}

func pairOf(t *testing.T, engine, hardware string, p, d Group) *Recipe {
	t.Helper()
	r, err := Decide(Query{Model: preset(t, "glm-5", "w8a8", ""), Release: release(t, engine), Hardware: machines(t, hardware), Topology: "pd", Prefill: p,
		Decode: d, MTP: AutoMTP})
	require.NoError(t, err)
	require.Nil(t, r.Refused)
	return r
}

// TestAscendPair is the published layout: two prefill nodes of TP16, four
// decode nodes of four TP4 ranks.
func TestAscendPair(t *testing.T) {
	r := pairOf(t, "vllm-ascend@0.20", "ascend-a3:16", Group{2, 16}, Group{4, 16})
	assert.Equal(t, "prefill 2 x TP16+EP32, decode 16 x TP4+EP64", r.Degrees)
	require.Len(t, r.Nodes, 6)
	ids := map[string]bool{}
	for _, n := range r.Nodes {
		i := slices.Index(n.Argv, "--kv-transfer-config")
		require.Positive(t, i)
		var c struct {
			ID    string         `yaml:"engine_id"`
			Extra map[string]any `yaml:"kv_connector_extra_config"`
		}
		require.NoError(t, yaml.Unmarshal([]byte(n.Argv[i+1]), &c))
		assert.False(t, ids[c.ID], "engine_id once a node")
		ids[c.ID] = true
		assert.Equal(t, map[string]any{"dp_size": 2, "tp_size": 16}, c.Extra["prefill"])
		assert.Equal(t, map[string]any{"dp_size": 16, "tp_size": 4}, c.Extra["decode"])
	}
	decode := r.Nodes[3]
	assert.Equal(t, ranks{Local: 4, Start: 4, DP: 16, TP: 4, Port: 6721, RPC: 10523, Address: "<node2-ip>"}, *decode.ranks)
	assert.Contains(t, strings.Join(decode.Argv, " "), `"cudagraph_capture_sizes":[4,8,12,16,20,24,28,32]`)
	ports := 0
	for _, w := range r.Router.Argv {
		if strings.HasPrefix(w, "67") {
			ports++
		}
	}
	assert.Equal(t, 18, ports, "two prefill and sixteen decode endpoints")
	text, err := r.Render("command")
	require.NoError(t, err)
	assert.Contains(t, text, "\n# then: glmconv verify DIR --endpoint http://NODE:PORT --functional   # each prefill and decode server, not the router\n")
	files, err := r.Files("script")
	require.NoError(t, err)
	require.Len(t, files, 7)
	for _, f := range files {
		bash(t, string(f.Data))
	}
}

// TestPrefillSmallerThanDecode is refused: the connector raises an error.
func TestPrefillSmallerThanDecode(t *testing.T) {
	r, err := Decide(Query{Model: preset(t, "glm-5", "w4a8", ""), Release: release(t, "vllm-ascend"), Hardware: machines(t, "ascend-a3:16"), Topology: "pd",
		Prefill: Group{4, 8}, Decode: Group{2, 16}, MTP: 0, MaxModelLen: 16384, Goal: LongContext})
	require.NoError(t, err)
	if r.Refused == nil {
		p, d := r.Nodes[0].ranks, r.Nodes[4].ranks
		assert.GreaterOrEqual(t, p.TP, d.TP)
		return
	}
	assert.Contains(t, []int{11, 12}, r.Refused.Rule)
}

// evil are names that a shell, YAML or systemd could take for something else.
var evil = []string{"it's", `a "b" $(touch x) ; rm -rf`, "$HOME/`id`", "<node0-ip>", "a: b #c", "%n %H", "--x"[2:] + " \\", "{a: [b", "日本 $((1+1))"}

func TestNamesAreQuoted(t *testing.T) {
	sh, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash on this machine: quoting not run")
	}
	for _, name := range evil {
		m := *preset(t, "glm-4.5-air", "", "")
		m.Path = name
		r, err := Decide(Query{Model: &m, Release: release(t, "vllm"), Hardware: machines(t, "h200:4"), MTP: 0, ServedName: name})
		require.NoError(t, err)
		out, err := exec.Command(sh, "-c", "printf '%s\\n' "+shell(name)).Output()
		require.NoError(t, err)
		assert.Equal(t, name+"\n", string(out))
		for _, form := range []string{"command", "script", "docker"} {
			files, err := r.Files(form)
			require.NoError(t, err)
			for _, f := range files {
				bash(t, string(f.Data))
			}
		}
		for _, form := range []string{"compose", "k8s"} {
			files, err := r.Files(form)
			require.NoError(t, err)
			for dec := yaml.NewDecoder(strings.NewReader(string(files[0].Data))); ; {
				var doc map[string]any
				if err := dec.Decode(&doc); err != nil {
					require.EqualError(t, err, "EOF", name)
					break
				}
			}
		}
	}
	for _, bad := range []string{"a\nb", "a\x00", "a\u2028b", "-x"} {
		m := *preset(t, "glm-4.5-air", "", "")
		m.Path = bad
		_, err := Decide(Query{Model: &m, Release: release(t, "vllm"), Hardware: machines(t, "h200:4")})
		var u *UsageError
		require.ErrorAs(t, err, &u, "%q", bad)
	}
}

// TestLeaderWorkerSet: ranks and addresses are the set's variables.
func TestLeaderWorkerSet(t *testing.T) {
	for _, tc := range []struct{ engine, model, hardware, want string }{
		{"sglang", "glm-5", "h200:8x2", "$(LWS_WORKER_INDEX)"},
		{"vllm", "glm-4.5-air", "h200:8x2", "LWS_WORKER_INDEX"},
	} {
		r, err := Decide(Query{Model: preset(t, tc.model, "", ""), Release: release(t, tc.engine), Hardware: machines(t, tc.hardware), MTP: 0})
		require.NoError(t, err)
		require.Nil(t, r.Refused, tc.model)
		text, err := r.Render("lws")
		require.NoError(t, err)
		assert.Contains(t, text, tc.want)
		assert.Contains(t, text, "LWS_LEADER_ADDRESS")
		assert.NotContains(t, text, "node0-ip")
		assert.NotContains(t, text, "\x01")
		_, err = r.Render("k8s")
		assert.Error(t, err)
	}
}

func FuzzShell(f *testing.F) {
	for _, s := range evil {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) {
			return
		}
		q := shell(s)
		if q == s {
			for _, r := range s {
				if strings.ContainsRune(" \t\n'\"\\$`;&|<>()*?[]{}!#~", r) {
					t.Fatalf("%q is not quoted", s)
				}
			}
			return
		}
		if inner := strings.ReplaceAll(q[1:len(q)-1], `'\''`, ""); strings.Contains(inner, "'") {
			t.Fatalf("%q leaves its quotes: %s", s, q)
		}
	})
}
