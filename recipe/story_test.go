package recipe

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// launch is a command that starts a server, as a script has it.
type launch struct {
	env   map[string]string
	flags map[string]string // by the engine's own name; "" where a flag takes no value
}

// spellings are the short names of flags that scripts use.
var spellings = map[string]string{"-tp": "--tensor-parallel-size", "--tp": "--tp-size", "--model": "--model-path", "--additional_config": "--additional-config"}

var starts = regexp.MustCompile(`(?m)^[ \t]*(vllm serve|python3? -m sglang\.launch_server)[ \t]`)

// launches are the commands of a guide with the variables that are exported
// before each.
func launches(text string) (out []launch) {
	at := 0
	for _, m := range starts.FindAllStringIndex(text, -1) {
		l := launch{env: map[string]string{}}
		for _, e := range regexp.MustCompile(`(?m)^[ \t]*export (\w+)=(.*)$`).FindAllStringSubmatch(text[at:m[0]], -1) {
			if e[1] != "IMAGE" && e[1] != "NAME" { // of a container that was started before
				l.env[e[1]] = strings.Trim(strings.TrimSpace(e[2]), `"`)
			}
		}
		words, n := shellWords(text[m[0]:])
		at = m[0] + n
		l.flags = flagsOf(words)
		out = append(out, l)
	}
	return out
}

// shellWords splits a command as a shell does, and says where it ends.
func shellWords(s string) (words []string, n int) {
	var word strings.Builder
	open, quote := false, byte(0)
	for n = 0; n < len(s); n++ {
		c := s[n]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, open = c, true
		case c == '\\' && n+1 < len(s) && s[n+1] == '\n':
			n++
		case c == '\n':
			if open {
				words = append(words, word.String())
			}
			return words, n
		case c == ' ' || c == '\t':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteByte(c)
			open = true
		}
	}
	return append(words, word.String()), n
}

// flagsOf are the flags of a command; JSON is brought into one form.
func flagsOf(words []string) map[string]string {
	out := map[string]string{}
	for i, w := range words {
		if !strings.HasPrefix(w, "-") || w == "-m" {
			continue
		}
		if long, ok := spellings[w]; ok {
			w = long
		}
		out[w] = ""
		if i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") {
			out[w] = canonical(words[i+1])
		}
	}
	return out
}

func canonical(s string) string {
	var v any
	if strings.HasPrefix(s, "{") && json.Unmarshal([]byte(s), &v) == nil {
		return compact(v)
	}
	return s
}

// rename puts what a script calls its own things for what a recipe calls them.
func (l *launch) rename(names map[string]string) {
	for _, m := range []map[string]string{l.env, l.flags} {
		for k, v := range m {
			if to, ok := names[v]; ok {
				m[k] = to
			}
		}
	}
}

// ownLaunch is a node's command in the same form.
func ownLaunch(n *Node) launch {
	l := launch{env: map[string]string{}, flags: flagsOf(n.Argv)}
	for _, e := range n.Env {
		l.env[e.Name] = e.Value
	}
	return l
}

// differences of a script and a recipe: lines that begin with - where only the
// script has something, with + where only the recipe has it.
func differences(script, own launch) (out []string) {
	for _, k := range [][2]map[string]string{{script.env, own.env}, {script.flags, own.flags}} {
		for name, v := range k[0] {
			if o, ok := k[1][name]; !ok || o != v {
				out = append(out, strings.TrimSpace("-"+name+" "+v))
			}
		}
		for name, v := range k[1] {
			if o, ok := k[0][name]; !ok || o != v {
				out = append(out, strings.TrimSpace("+"+name+" "+v))
			}
		}
	}
	name := func(s string) string { return strings.TrimLeft(s[1:], "-") }
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(name(a)+a[:1], name(b)+b[:1]) })
	return out
}

// storyScript is a script of a guide, by its place among the guide's launches,
// and the question that has it for an answer.
type storyScript struct {
	name  string
	nth   []int // launches with the same answer, one for each node where there are several
	ask   Query
	names map[string]string // of the script's own values
	first int               // of the recipe's nodes, the one that nth begins with
}

// meant are differences from guides on purpose: a pattern of their lines, and
// why.
type meant struct{ line, why string }

// compareStory holds every script against its recipe, and writes what is left
// into a golden file.
func compareStory(t *testing.T, file string, scripts []storyScript, reasons []meant) {
	data, err := os.ReadFile(filepath.Join(testkit.Shared(t, "stories"), file))
	require.NoError(t, err)
	all := launches(string(data))
	var b strings.Builder
	used := map[int]bool{}
	for _, s := range scripts {
		r, err := Decide(s.ask)
		require.NoError(t, err, s.name)
		require.Nil(t, r.Refused, "%s: %+v", s.name, r.Refused)
		for i, n := range s.nth {
			require.Less(t, n, len(all), s.name)
			script := all[n]
			script.rename(s.names)
			script.rename(map[string]string{"$local_ip": fmt.Sprintf("<node%d-ip>", s.first+i)})
			own := ownLaunch(&r.Nodes[s.first+i])
			delete(script.flags, "--model-path")
			delete(own.flags, "--model-path")
			fmt.Fprintf(&b, "%s, node %d: %s\n", s.name, s.first+i, strings.ReplaceAll(strings.Join(r.Nodes[s.first+i].Argv, " "), "\x00", "$"))
			for _, line := range differences(script, own) {
				at := slices.IndexFunc(reasons, func(m meant) bool { return regexp.MustCompile("^" + m.line + "$").MatchString(line) })
				if assert.GreaterOrEqual(t, at, 0, "%s, node %d: %s", s.name, i, line) {
					used[at] = true
					fmt.Fprintf(&b, "  %s: %s\n", line, reasons[at].why)
				}
			}
		}
	}
	for i, m := range reasons {
		assert.True(t, used[i], "no script needs the correction %q", m.line)
	}
	path := filepath.Join("testdata", strings.TrimSuffix(file, ".md")+".golden")
	if os.Getenv("GLMCONV_UPDATE") != "" {
		require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o666))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), b.String(), "GLMCONV_UPDATE=1 writes the file anew")
}

// TestStoryOfTuning: the commands of the guide that tunes GLM-4.5-Air on A100s,
// those that crashed there are refused.
func TestStoryOfTuning(t *testing.T) {
	air := preset(t, "glm-4.5-air", "", "")
	four := func(q Query) Query {
		q.Model, q.Hardware, q.MTP = air, machines(t, "a100-80g:4"), 0
		return q
	}
	sglang, vllm := release(t, "sglang"), release(t, "vllm")
	scripts := []storyScript{
		{name: "the best", nth: []int{0}, ask: four(Query{Release: sglang})},
		{name: "vLLM without a flag", nth: []int{1}, ask: four(Query{Release: vllm, TP: 4, EP: 1, Tools: "none", Reasoning: "none"})},
		{name: "SGLang without a flag", nth: []int{2}, ask: four(Query{Release: sglang, TP: 4, EP: 1, Tools: "none", Reasoning: "none"})},
	}
	for _, n := range []int{5, 6, 7, 8} {
		scripts = append(scripts, storyScript{name: "experts on their ranks", nth: []int{n}, ask: four(Query{Release: sglang, Tools: "none", Reasoning: "none"})})
	}
	scripts = append(scripts, storyScript{name: "the base of other cases", nth: []int{9}, ask: scripts[1].ask}, storyScript{name: "the best, for other cases", nth: []int{10}, ask: scripts[0].ask})
	compareStory(t, "a100-glm-4.5-air.md", scripts, []meant{
		{`\+--host 0\.0\.0\.0`, "where to listen is always said"}, {`\+--port (8000|30000)`, "the engine's own port, said"},
		{`---tool-call-parser glm`, "no parser has this name"}, {`\+--tool-call-parser glm45`, "the model's parser"},
		{`\+--gpu-memory-utilization 0\.92`, "the fraction that the arithmetic used"}, {`\+--model-loader-extra-config \{"enable_weights_track":true\}`, "names weights that were not loaded"},
		{`---attention-backend (triton|fa3)`, "measured slower there than the default"}, {`---cuda-graph-max-bs 512`, "measured neutral there, and gone since"},
	})

	r, err := Decide(Query{Model: preset(t, "glm-4.5-air", "fp8", ""), Release: sglang, Hardware: machines(t, "a100-80g:4"), TP: 4, MTP: AutoMTP})
	require.NoError(t, err)
	require.NotNil(t, r.Refused)
	assert.Equal(t, 2, r.Refused.Rule, "the launch that ended with: FP8 is not supported on A100")
	_, err = Decide(four(Query{Release: sglang, PP: 8}))
	var u *UsageError
	require.ErrorAs(t, err, &u, "eight stages of four devices")
	r, err = Decide(four(Query{Release: sglang, PP: 4}))
	require.NoError(t, err)
	require.NotNil(t, r.Refused)
	assert.Equal(t, 6, r.Refused.Rule, "the launch that ended with: PP is not supported")
}

// TestStoryOfPictures: the launches of the guide to GLM-4.5V.
func TestStoryOfPictures(t *testing.T) {
	ask := Query{Model: preset(t, "glm-4.5v", "", ""), Release: release(t, "sglang"), Hardware: machines(t, "h200:4"), TP: 4, EP: 1, Tools: "none", MTP: AutoMTP}
	thinking, calling, bench := ask, ask, ask
	calling.Tools, bench.Reasoning = "", "none"
	compareStory(t, "glm-4.5v.md", []storyScript{
		{name: "thinking", nth: []int{0}, ask: thinking}, {name: "tool calls", nth: []int{1}, ask: calling}, {name: "measured", nth: []int{2}, ask: bench},
	}, []meant{{`\+--host 0\.0\.0\.0`, "where to listen is always said"}, {`\+--port 30000`, "the engine's own port, said"}})
}

// TestStoryOfAscend: the launches of vllm-ascend's guide to GLM-5, on one server,
// on two, and with prefill and decode apart.
func TestStoryOfAscend(t *testing.T) {
	ask := func(scheme, hardware string) Query {
		return Query{Model: preset(t, "glm-5", scheme, ""), Release: release(t, "vllm-ascend@0.20"), Hardware: machines(t, hardware), MTP: AutoMTP, ServedName: "glm-5"}
	}
	bf16 := ask("", "ascend-a3:16x2")
	bf16.MTP = 3
	r, err := Decide(bf16)
	require.NoError(t, err)
	require.NotNil(t, r.Refused)
	assert.Equal(t, 15, r.Refused.Rule, "before adjust_weight.py")
	adjusted := *bf16.Model
	adjusted.Copies = true
	bf16.Model = &adjusted
	pd := ask("w8a8", "ascend-a3:16")
	pd.Topology, pd.Prefill, pd.Decode = "pd", Group{2, 16}, Group{4, 16}
	names := func(more ...string) map[string]string {
		m := map[string]string{"$nic_name": "<interface>", "$node0_ip": "<node0-ip>", "$1": rankDevices, "$2": rankPort, "$4": rankNumber}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	compareStory(t, "glm-5-ascend.md", []storyScript{
		{name: "w4a8 on one A3", nth: []int{0}, ask: ask("w4a8", "ascend-a3:16")},
		{name: "w8a8 on one A3", nth: []int{1}, ask: ask("w8a8", "ascend-a3:16")},
		{name: "w4a8 on one A2", nth: []int{2}, ask: ask("w4a8", "ascend-a2:8")},
		{name: "BF16 on two A3", nth: []int{3, 4}, ask: bf16, names: names()},
		{name: "w4a8 on two A2", nth: []int{5, 6}, ask: ask("w4a8", "ascend-a2:8x2"), names: names()},
		{name: "w8a8 on two A3", nth: []int{7, 8}, ask: ask("w8a8", "ascend-a3:16x2"), names: names()},
		{name: "prefill", nth: []int{9, 10}, ask: pd, names: names("$3", "2", "$5", "<node0-ip>", "$6", "10521", "$7", "16")},
		{name: "decode", nth: []int{11, 12, 13, 14}, first: 2, ask: pd, names: names("$3", "16", "$5", "<node2-ip>", "$6", "10523", "$7", "4")},
	}, []meant{
		{`---trust-remote-code`, "the architecture is native"}, {`---port 8077`, "any free port"}, {`\+--port 8000`, "the engine's own port, said"},
		{`---host 0\.0\.0\.0`, "without HTTP on this node"}, {`---data-parallel-size 1`, "the default"}, {`---enable-chunked-prefill`, "the default"},
		{`---enable-prefix-caching`, "the default"}, {`\+--enable-auto-tool-choice`, "parsers are on"}, {`\+--tool-call-parser glm47`, "the model's parser"},
		{`\+--reasoning-parser glm45`, "the model's parser"},
		{`[-+]--kv-transfer-config \{"engine_id":"\d",.*`, "engine_id is unique for each node"}, {`---profiler-config .*`, "nothing is profiled"},
		{`-ASCEND_TRANSPORT_PRINT 1`, "prints transfers"}, {`-LD_LIBRARY_PATH \$LD_LIBRARY_PATH:/usr/local/lib`, "the shell of the image sets it (vllm-ascend Dockerfile.a3)"},
		{`-VLLM_ASCEND_ENABLE_FUSED_MC2 1`, "takes neither drafts nor multistream_overlap_shared_expert"}, {`-VLLM_ASCEND_ENABLE_FLASHCOMM1 1`, "deprecated"},
	})
}

// TestStoryOfLaunchers: the parameters of the guide's launcher, rank by rank, and
// the endpoints of its proxy, are those of the recipe.
func TestStoryOfLaunchers(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(testkit.Shared(t, "stories"), "glm-5-ascend.md"))
	require.NoError(t, err)
	text := string(data)
	r := pairOf(t, "vllm-ascend@0.20", "ascend-a3:16", Group{2, 16}, Group{4, 16})
	lines := regexp.MustCompile(`(?m)^ *python launch_online_dp\.py (.*)$`).FindAllStringSubmatch(text, -1)
	require.Len(t, lines, len(r.Nodes))
	addresses := map[string]string{"$node_p0_ip": "<node0-ip>", "$node_d0_ip": "<node2-ip>"}
	for i, l := range lines {
		words, _ := shellWords(l[1])
		f, n := flagsOf(words), r.Nodes[i].ranks
		own := map[string]string{"--dp-size": fmt.Sprint(n.DP), "--tp-size": fmt.Sprint(n.TP), "--dp-size-local": fmt.Sprint(n.Local), "--dp-rank-start": fmt.Sprint(n.Start),
			"--dp-rpc-port": fmt.Sprint(n.RPC), "--vllm-start-port": fmt.Sprint(n.Port), "--dp-address": n.Address}
		f["--dp-address"] = addresses[f["--dp-address"]]
		assert.Equal(t, f, own, "node %d", i)
	}
	at := strings.Index(text, "python load_balance_proxy_server_example.py")
	require.Positive(t, at)
	proxy, _ := shellWords(text[at:])
	for i, w := range proxy {
		if m := regexp.MustCompile(`^\$node_([pd])(\d)_ip$`).FindStringSubmatch(w); m != nil {
			first := map[string]int{"p": 0, "d": 2}[m[1]]
			proxy[i] = fmt.Sprintf("<node%d-ip>", first+int(m[2][0]-'0'))
		}
	}
	proxy[0] = "python3"
	assert.Equal(t, proxy, r.Router.Argv)
}
