package mutate

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/check"
)

// The suites try every fault, and every benign change, on results of every
// scheme and format of several models, with the manifest as the converter left
// it (kept), rewritten to match (forged), or gone (removed). They take one
// combination of each, always the same, and with GLMCONV_TORTURE (a duration
// for each suite) as many more as fit. GLMCONV_MUTATE limits them to names that
// contain it, GLMCONV_MUTATE_ON to such results. Counts go to the file that GLMCONV_TORTURE_COUNTS names.

const template = `[gMASK]<sop>
{%- if tools %}<|system|>
{% for t in tools %}{{ t|tojson }}{% endfor %}{%- endif %}
{%- for m in messages %}{% if m.role == 'user' %}<|user|>
{{ m.content }}{% else %}<|assistant|>
{{ m.content }}{% endif %}{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{{ '<think></think>' if (enable_thinking is defined and not enable_thinking) else '' }}{%- endif %}`

// base is a result that faults are tried on.
type base struct {
	model  string
	scheme layout.Scheme
	format layout.Format
	rest   layout.RestMode // of schemes that leave it open
	group  int             // of int4; 0: the default
	as     *published      // for Ascend, as releases are made; nil: plainly

	once     sync.Once
	src, dir string // dir "" where the pair cannot be
}

func (b *base) String() string {
	if b.as != nil {
		return fmt.Sprintf("%s %s %s, %s", b.model, b.scheme, b.format, b.as)
	}
	if b.group == layout.PerChannel {
		return fmt.Sprintf("%s %s %s, rest %s, a channel", b.model, b.scheme, b.format, b.rest)
	}
	if b.rest != "" {
		return fmt.Sprintf("%s %s %s, rest %s", b.model, b.scheme, b.format, b.rest)
	}
	return fmt.Sprintf("%s %s %s", b.model, b.scheme, b.format)
}

// bases are the results: every layout of GLM-4.5, and of the others those that
// their users have. In FP4 and MX publishers leave all but the experts alone; the
// compat goldens do not.
func bases() (list []*base) {
	for _, scheme := range layout.Schemes {
		for _, format := range layout.Formats {
			if layout.Supported(scheme, format) == nil && scheme != layout.BF16 {
				list = append(list, &base{model: "nano-glm4moe", scheme: scheme, format: format})
			}
		}
	}
	for _, scheme := range []layout.Scheme{layout.NVFP4, layout.MXFP4A16, layout.MXFP8} {
		list = append(list, &base{model: "nano-glm4moe", scheme: scheme, format: layout.CompressedTensors, rest: layout.RestSame})
	}
	return append(list,
		&base{model: "nano-glm5", scheme: layout.NVFP4, format: layout.CompressedTensors, rest: layout.RestFP8},
		&base{model: "nano-glm5", scheme: layout.MXFP8, format: layout.CompressedTensors, rest: layout.RestSame},
		&base{model: "nano-glm5", scheme: layout.Int4Int8, format: layout.CompressedTensors},
		&base{model: "nano-glm5", scheme: layout.W4A8, format: layout.CompressedTensors, rest: layout.RestInt8, group: layout.PerChannel},
		&base{model: "nano-glm45v", scheme: layout.MXFP4, format: layout.CompressedTensors},
		&base{model: "nano-glm5", scheme: layout.W8A8, format: layout.Ascend}, &base{model: "nano-glm5", scheme: layout.W4A8, format: layout.Ascend},
		&base{model: "nano-glm5", scheme: layout.FP8Block, format: layout.HFFP8}, &base{model: "nano-glm52", scheme: layout.W8A8, format: layout.Ascend},
		&base{model: "nano-glm45v", scheme: layout.W8A8, format: layout.CompressedTensors}, &base{model: "nano-glm45v", scheme: layout.FP8, format: layout.CompressedTensors},
		&base{model: "nano-glm45v", scheme: layout.W4A8, format: layout.Ascend})
}

// chosen are the bases that GLMCONV_MUTATE_ON leaves.
func chosen(list []*base) []*base {
	return slices.DeleteFunc(list, func(b *base) bool { return !strings.Contains(b.String(), os.Getenv("GLMCONV_MUTATE_ON")) })
}

// make converts; it may be called by several goroutines.
func (b *base) make(t *testing.T) bool {
	t.Helper()
	b.once.Do(func() {
		b.src = filepath.Join(t.TempDir(), "source")
		require.NoError(t, os.CopyFS(b.src, os.DirFS(testkit.Shared(t, "reference/"+b.model))))
		require.NoError(t, os.WriteFile(filepath.Join(b.src, templateFile), []byte(template), 0o600))
		if b.as != nil {
			b.dir = b.as.make(t, b)
			return
		}
		b.dir = resultOf(t, b.src, b.scheme, b.format, quant.Options{Rest: b.rest, GroupSize: b.group})
	})
	return b.dir != ""
}

type manifest string

var manifests = []manifest{"kept", "forged", "removed"}

// damaged applies a fault to a copy of a base; "" if it does not apply. The
// caller removes the folder.
func (b *base) damaged(t *testing.T, f Fault, m manifest) string {
	t.Helper()
	root, err := os.MkdirTemp("", "suite-")
	require.NoError(t, err)
	dir := filepath.Join(root, "result")
	require.NoError(t, os.Mkdir(dir, 0o700))
	linked(t, b.dir, dir)
	applies, err := f.Apply(Made{b.src, dir})
	require.NoError(t, err, "%s: %s", b, f.Name)
	if !applies {
		require.NoError(t, os.RemoveAll(root))
		return ""
	}
	path := filepath.Join(dir, manifestName)
	switch m {
	case "kept":
		raw, err := os.ReadFile(filepath.Join(b.dir, manifestName))
		require.NoError(t, err)
		require.NoError(t, swap(path, raw))
	case "removed":
		require.NoError(t, os.Remove(path))
	}
	return dir
}

// linked makes dst, an empty folder, one of hard links to the files of src.
func linked(t *testing.T, src, dst string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(src, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == src {
			return err
		}
		to := filepath.Join(dst, strings.TrimPrefix(path, src))
		if d.IsDir() {
			return os.Mkdir(to, 0o700)
		}
		return os.Link(path, to)
	}))
}

// opinion is what glmconv says of a result.
type opinion struct {
	negative bool
	failed   string // what was found wrong
	all      string // and what was noted
}

// judge asks verify, and check where verify finds nothing.
func judge(t *testing.T, src, dir string, always bool) (o opinion) {
	t.Helper()
	r, err := verify.Static(t.Context(), src, dir, verify.StaticOptions{Workers: 1})
	if err != nil {
		return opinion{true, err.Error(), err.Error()}
	}
	o.negative = r.Verdict != verify.Pass
	o.failed = r.Cause + r.Reason
	for _, f := range r.Failed {
		o.failed += "\n" + f.Where + ": " + f.Detail
	}
	o.all = o.failed
	for _, n := range r.Notes {
		o.all += "\n" + n.Where + ": " + n.Detail
	}
	if o.negative && !always {
		return o
	}
	c, err := check.Run(t.Context(), dir, check.Options{Weights: true, Workers: 1})
	if err != nil {
		return opinion{true, err.Error(), err.Error()}
	}
	o.negative = o.negative || c.Verdict != nil && !*c.Verdict
	for _, f := range c.Findings {
		line := "\n" + f.Where + ": " + f.Code + ": " + f.Detail
		if o.all += line; f.Severity == check.Error {
			o.failed += line
		}
	}
	for _, e := range c.Engines {
		o.all += "\n" + e.Engine + " " + string(e.Answer) + ": " + e.Rule
	}
	return o
}

// says reports whether one of the words of a fault stands in a text.
func (f Fault) says(text string) bool {
	return slices.ContainsFunc(f.Says, func(word string) bool { return strings.Contains(text, word) })
}

// tally counts a group.
type tally struct{ kinds, tried, negative, named int }

// try applies each of a list to one base, or as many as time allows, and hands
// every folder to look.
func try(t *testing.T, all []*base, list []Fault, states func(Fault) []manifest, look func(b *base, f Fault, m manifest, dir string)) {
	t.Helper()
	more, _ := time.ParseDuration(os.Getenv("GLMCONV_TORTURE"))
	until, only := time.Now().Add(more), os.Getenv("GLMCONV_MUTATE")
	applied := make([]atomic.Int64, len(list))
	once := func(i, at int) {
		f, ms := list[i], states(list[i])
		b, m := all[(i*7+at)%len(all)], ms[(i+at/len(all))%len(ms)]
		if !b.make(t) {
			return
		}
		if dir := b.damaged(t, f, m); dir != "" {
			applied[i].Add(1)
			look(b, f, m, dir)
			assert.NoError(t, os.RemoveAll(filepath.Dir(dir)))
		}
	}
	g := errgroup.Group{}
	g.SetLimit(runtime.GOMAXPROCS(0))
	for round := range len(all) * len(manifests) {
		for i, f := range list {
			if !strings.Contains(f.Group+": "+f.Name, only) || round >= len(all)*len(states(f)) {
				continue
			}
			g.Go(func() error {
				if applied[i].Load() == 0 || time.Now().Before(until) {
					once(i, round)
				}
				return nil
			})
		}
		require.NoError(t, g.Wait()) // a round after the other: every fault gets its first
	}
	for i, f := range list {
		if strings.Contains(f.Group+": "+f.Name, only) && os.Getenv("GLMCONV_MUTATE_ON") == "" {
			assert.NotZero(t, applied[i].Load(), "%s: %s applies to no result", f.Group, f.Name)
		}
	}
}

// TestSuiteOfFaults: every fault gets a negative verdict, and at least 95 of 100
// are named; what is no fault and must be known is named always.
func TestSuiteOfFaults(t *testing.T) { seeFaults(t, chosen(bases()), Faults(), 0.95) }

// seeFaults tries faults on results and requires that share of them to be named.
func seeFaults(t *testing.T, on []*base, list []Fault, share float64) {
	t.Helper()
	var mu sync.Mutex
	counts, missed, unnamed, total := map[string]*tally{}, []string{}, []string{}, tally{}
	var order []string
	for _, f := range list {
		if counts[f.Group] == nil {
			counts[f.Group], order = &tally{}, append(order, f.Group)
		}
		counts[f.Group].kinds++
	}
	states := func(f Fault) []manifest {
		if f.Bare {
			return []manifest{"removed"}
		}
		if f.Recorded {
			return []manifest{"kept", "forged"}
		}
		return manifests
	}
	try(t, on, list, states, func(b *base, f Fault, m manifest, dir string) {
		o := judge(t, b.src, dir, f.Notes)
		found := o.failed
		if f.Notes {
			found = o.all
		}
		named := f.says(found)
		mu.Lock()
		defer mu.Unlock()
		c := counts[f.Group]
		where := fmt.Sprintf("%s: %s (%s, %s)", f.Group, f.Name, b, m)
		if c.tried++; o.negative || f.Notes && named {
			c.negative++
		} else {
			missed = append(missed, fmt.Sprintf("%s: %.700s", where, o.all))
		}
		if named {
			c.named++
		} else if o.negative || f.Notes {
			unnamed = append(unnamed, fmt.Sprintf("%s: none of %q in: %.300s", where, f.Says, found))
		}
	})
	for _, group := range order {
		c := counts[group]
		total.tried, total.negative, total.named = total.tried+c.tried, total.negative+c.negative, total.named+c.named
		note(t, suiteCount{"faults", group, c.kinds, c.tried, c.negative, c.named})
	}
	slices.Sort(missed)
	slices.Sort(unnamed)
	assert.True(t, len(missed) == 0, "not seen:\n%s", strings.Join(missed, "\n"))
	assert.GreaterOrEqual(t, float64(total.named), share*float64(total.tried))
	t.Logf("%d tried, %d seen, %d named", total.tried, total.negative, total.named)
	if len(unnamed) > 0 {
		t.Logf("not named:\n%s", strings.Join(unnamed, "\n"))
	}
}

// TestSuiteOfBenignChanges: nothing that leaves the answers as they were is
// called a fault, by verify or by check.
func TestSuiteOfBenignChanges(t *testing.T) {
	var mu sync.Mutex
	counts, alarms := map[string]*tally{}, []string{}
	list := Benign()
	require.GreaterOrEqual(t, len(list), 60)
	var order []string
	for _, f := range list {
		if counts[f.Group] == nil {
			counts[f.Group], order = &tally{}, append(order, f.Group)
		}
		counts[f.Group].kinds++
	}
	states := func(f Fault) []manifest {
		if f.Bare {
			return []manifest{"removed"}
		}
		return []manifest{"forged", "removed"}
	}
	try(t, chosen(bases()), list, states, func(b *base, f Fault, m manifest, dir string) {
		o := judge(t, b.src, dir, true)
		mu.Lock()
		defer mu.Unlock()
		if counts[f.Group].tried++; o.negative {
			counts[f.Group].negative++
			alarms = append(alarms, fmt.Sprintf("%s: %s (%s, %s): %.400s", f.Group, f.Name, b, m, o.failed))
		}
	})
	for _, group := range order {
		c := counts[group]
		note(t, suiteCount{"benign", group, c.kinds, c.tried, c.negative, 0})
	}
	slices.Sort(alarms)
	assert.True(t, len(alarms) == 0, "false alarms:\n%s", strings.Join(alarms, "\n"))
}

// suiteCount is a line of the counts.
type suiteCount struct {
	Table, Group                  string
	Kinds, Tried, Negative, Named int
}

func note(t *testing.T, c suiteCount) {
	t.Helper()
	t.Logf("%+v", c)
	path := os.Getenv("GLMCONV_TORTURE_COUNTS")
	if path == "" {
		return
	}
	line, err := json.Marshal(c)
	require.NoError(t, err)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = fmt.Fprintf(f, "%s\n", line)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
