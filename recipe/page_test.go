package recipe

import (
	"bytes"
	"encoding/json"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cellsOf reads the JSON of a page.
func cellsOf(t *testing.T, text string) *page {
	t.Helper()
	m := regexp.MustCompile(`(?s)<script type="application/json" id="cells">(.*?)</script>`).FindStringSubmatch(text)
	require.NotNil(t, m, "the page has no cells")
	p := page{packed: newPacked()}
	dec := json.NewDecoder(strings.NewReader(m[1]))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&p))
	return &p
}

func pageOf(t *testing.T, q Query) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, WriteHTML(&b, q))
	return b.String()
}

// TestPage: every cell is what Decide answers to the cell's question, in every
// form, and no cell is missing.
func TestPage(t *testing.T) {
	m := preset(t, "glm-4.5-air", "w8a8", "")
	q := Query{Model: m, Release: release(t, "sglang"), Hardware: machines(t, "a100-80g:4"), Goal: Balanced, MTP: AutoMTP, MaxModelLen: 32768, Concurrency: 8}
	text := pageOf(t, q)
	assert.Less(t, len(text), 3<<20)
	p := cellsOf(t, text)
	choices := q.choices()
	want := 1
	for i, c := range choices {
		want *= len(c.Options)
		got := p.Choices[i]
		assert.Equal(t, c.First, got.First)
	}
	require.Len(t, p.Cells, want)
	assert.Equal(t, []string{"sglang", "a100-80g", "4", Balanced}, []string{p.Choices[0].First, p.Choices[1].First, p.Choices[2].First, p.Choices[3].First})
	states := map[int]int{}
	for n := range p.Cells {
		if n%7 != 0 { // no choice has a multiple of seven options, so all of them come up
			continue
		}
		ask, there := q, true
		ask.Topology = ""
		at := make([]int, len(choices))
		for i, rest := len(choices)-1, n; i >= 0; i-- {
			at[i] = rest % len(choices[i].Options)
			rest /= len(choices[i].Options)
		}
		for i, c := range choices {
			there = there && c.Options[at[i]].set(&ask)
		}
		if !there {
			require.Equal(t, -1, p.Cells[n])
			continue
		}
		r, err := Decide(ask)
		require.NoError(t, err)
		d := p.Decisions[p.Cells[n]]
		states[d[0]]++
		for i, f := range p.Forms {
			text, err := r.Render(f)
			if err != nil {
				require.Equal(t, -1, d[3+i], "%s of cell %d", f, n)
				continue
			}
			require.Equal(t, text, testkit.PageText(p.Strings, p.Texts, d[3+i]), "%s of cell %d", f, n)
		}
		switch {
		case r.Refused != nil:
			require.Equal(t, stateRefused, d[0])
			require.Equal(t, r.Refused.Detail, p.Strings[d[2]])
		case r.Tight:
			require.Equal(t, stateTight, d[0])
			require.Equal(t, r.Degrees, p.Strings[d[1]])
		default:
			require.Equal(t, stateFits, d[0])
			require.Equal(t, r.Degrees, p.Strings[d[1]])
		}
	}
	assert.Positive(t, states[stateFits])
	assert.Positive(t, states[stateRefused])
}

// TestPageOfForcedDegrees: degrees that are forced refuse the machines which
// they do not divide, and no others; words that mean nothing refuse the page.
func TestPageOfForcedDegrees(t *testing.T) {
	q := Query{Model: preset(t, "glm-4.5v", "", ""), TP: 4, MaxModelLen: 32768}
	p := cellsOf(t, pageOf(t, q))
	states := map[string]map[int]int{}
	for n, cell := range p.Cells {
		rest, machines := n, ""
		for i := len(p.Choices) - 1; i >= 0; i-- {
			c := &p.Choices[i]
			if c.ID == "machines" {
				machines = c.Options[rest%len(c.Options)].ID
			}
			rest /= len(c.Options)
		}
		if cell < 0 {
			continue
		}
		d := p.Decisions[cell]
		if states[machines] == nil {
			states[machines] = map[int]int{}
		}
		states[machines][d[0]]++
		if machines == "2" {
			require.Equal(t, []string{"rule 10", "TP 4, DP 0 and PP 0 do not divide 2 devices"}, []string{p.Strings[d[1]], p.Strings[d[2]]})
		}
	}
	assert.Zero(t, states["2"][stateFits])
	assert.Positive(t, states["4"][stateFits])
	for _, wrong := range []Query{{Model: q.Model, Goal: "fast"}, {Model: q.Model, Topology: "ring"}, {Model: q.Model, TP: -1}, {Model: q.Model, KV: "int3"}} {
		var u *UsageError
		assert.ErrorAs(t, WriteHTML(new(bytes.Buffer), wrong), &u)
	}
}

// TestFlagsOfMachines: the words of the page for machines are read as the
// machines that its cell is about, those of a custom device too.
func TestFlagsOfMachines(t *testing.T) {
	for _, asked := range []string{"a100-80g:4", "custom:mem=96GiB,cc=9.0,n=8", "custom:mem=1.5TiB,cc=8.0,n=4x3", "custom:mem=98304mib,cc=9.0,n=2,nodes=2", "custom:mem=96000MB,cc=9.0,n=8"} {
		q := Query{Model: preset(t, "glm-4.5v", "", ""), Hardware: machines(t, asked)}
		list, _ := q.machines()
		for _, d := range q.devices() {
			for _, m := range list {
				ask := q
				if d.set(&ask); !m.set(&ask) {
					continue
				}
				words := strings.Fields(strings.NewReplacer("{device}", d.Flags, "{node}", strconv.Itoa(d.Node)).Replace(m.Flags))
				h, err := ParseHardware(words[1])
				require.NoError(t, err, words)
				assert.Equal(t, []any{ask.Hardware.ID, ask.Hardware.Device, ask.Hardware.Bytes, ask.Hardware.Devices, ask.Hardware.Nodes}, []any{h.ID, h.Device, h.Bytes, h.Devices, h.Nodes}, words)
			}
		}
	}
	assert.Equal(t, int64(3<<39), machines(t, "custom:mem=1.5TiB,cc=8.0,n=4x3").Bytes)
	assert.Equal(t, 12, machines(t, "custom:mem=1.5TiB,cc=8.0,n=4x3").Total())
	assert.Equal(t, int64(96e9), machines(t, "custom:mem=96000MB,cc=9.0,n=8").Bytes)
}

// TestPageOfHostileNames: a name is text wherever it stands, and the page asks
// for nothing outside of it.
func TestPageOfHostileNames(t *testing.T) {
	for _, name := range append([]string{`</script><img src=x onerror=alert(1)>`, `<!--<script>`, `"><svg/onload=alert(1)>`, `{{.}} ${x} ' " \`}, evil...) {
		m := *preset(t, "glm-4.5v", "", "")
		m.Path, m.asked = name, ""
		q := Query{Model: &m, Release: release(t, "vllm"), Hardware: machines(t, "h200:4"), MTP: 0, MaxModelLen: 32768, ServedName: name}
		p := &page{Command: "glmconv recipe " + q.words(), Choices: q.choices(), Forms: Forms, packed: newPacked()}
		r, err := Decide(q)
		require.NoError(t, err)
		_, err = p.add(r, map[string]int{})
		require.NoError(t, err)
		var b bytes.Buffer
		require.NoError(t, p.write(&b, &m))
		text := b.String()
		assert.Equal(t, 2, strings.Count(text, "<script"), name)
		assert.Equal(t, 2, strings.Count(text, "</script"), name)
		for _, tag := range []string{"<img", "<svg", "<link", "<iframe", "<!--", "@import", "url(", "src=\"", "href="} {
			if !strings.Contains(html.EscapeString(name), tag) {
				assert.NotContains(t, text, tag, name)
			}
		}
		back := cellsOf(t, text)
		d := back.Decisions[0]
		assert.Contains(t, testkit.PageText(back.Strings, back.Texts, d[3]), shell(name), name)
		assert.Contains(t, text, "<title>Recipes for "+escaped(name)+"</title>", name)
	}
}

// escaped is how html/template writes text in an element without markup.
func escaped(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;", "+", "&#43;").Replace(s)
}

// TestPageInABrowser: the page's script finds the cell that the address names.
func TestPageInABrowser(t *testing.T) {
	browser := testkit.Tool(t, "chromium", "the page's script is not run")
	m := preset(t, "glm-5", "w8a8", "")
	q := Query{Model: m, MTP: AutoMTP, MaxModelLen: 40960}
	path := filepath.Join(t.TempDir(), "page.html")
	require.NoError(t, os.WriteFile(path, []byte(pageOf(t, q)), 0o600))
	for _, tc := range []struct {
		name, at string
		q        Query
	}{
		{"fits", "engine=vllm-ascend&device=ascend-a3&machines=2%2B4&goal=throughput&form=script",
			Query{Release: release(t, "vllm-ascend"), Hardware: machines(t, "ascend-a3:16"), Topology: "pd", Prefill: Group{2, 16}, Decode: Group{4, 16}}},
		{"refused", "engine=sglang&device=a100-80g&machines=8&goal=latency&form=json",
			Query{Release: release(t, "sglang"), Hardware: machines(t, "a100-80g:8"), Goal: Latency}},
		{"a form that one server does not have", "engine=vllm-ascend&device=ascend-a3&machines=16&goal=throughput&form=lws",
			Query{Release: release(t, "vllm-ascend"), Hardware: machines(t, "ascend-a3:16")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.Command(browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--user-data-dir="+t.TempDir(), "--dump-dom",
				"file://"+path+"#"+tc.at)
			timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
			dom, err := cmd.Output()
			require.NoError(t, err)
			shown := regexp.MustCompile(`(?s)<pre id="text"[^>]*>(.*?)</pre>`).FindSubmatch(dom)
			require.NotNil(t, shown)
			tc.q.Model, tc.q.MTP, tc.q.MaxModelLen = m, AutoMTP, 40960
			r, err := Decide(tc.q)
			require.NoError(t, err)
			_, form, _ := strings.Cut(tc.at, "form=")
			out := form
			if form == "lws" {
				form, out = "command", ""
			}
			want, err := r.Render(form)
			require.NoError(t, err)
			assert.Equal(t, want, html.UnescapeString(string(shown[1])))
			asks := regexp.MustCompile(`<pre id="ask"[^>]*>([^<]*)</pre>`).FindSubmatch(dom)
			require.NotNil(t, asks)
			_, words, _ := strings.Cut(string(asks[1]), " --out ")
			assert.Equal(t, out, words, "the command has the form that is shown")
		})
	}
}
