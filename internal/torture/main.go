// Command torture runs the sweeps of cmd/glmconv for long and puts what they
// counted into docs/reliability.md, between its two marks:
//
//	go run ./internal/torture [-for 15m] [-doc docs/reliability.md] [-counts FILE]
//
// With -counts it runs nothing and writes what sweeps counted into FILE earlier
// (GLMCONV_TORTURE_COUNTS).
//
// A sweep that finds a broken promise fails, and then nothing is written.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// count is a line of the sweeps, or with a Table of the suites of faults and
// benign changes.
type count struct {
	Suite, Job, Skipped string
	Points, Hit         int

	Table, Group                  string
	Kinds, Tried, Negative, Named int
}

// shares is how much of the budget of one suite all of them take together.
const shares = 6

func main() {
	long := flag.Duration("for", 15*time.Minute, "about how long")
	doc := flag.String("doc", filepath.Join("docs", "reliability.md"), "page to write")
	counts := flag.String("counts", "", "counts of earlier sweeps")
	flag.Parse()
	if err := torture(*long, *doc, *counts); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func torture(long time.Duration, doc, counts string) error {
	if counts == "" {
		dir, err := os.MkdirTemp("", "torture-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		counts = filepath.Join(dir, "counts")
		if err := sweep(long, counts); err != nil {
			return err
		}
	}
	return write(doc, counts)
}

// sweep runs the sweeps and suites, which add their counts to a file.
func sweep(long time.Duration, counts string) error {
	for _, run := range []struct{ tests, pkg, race string }{{"^(TestSweep|TestClusterOfTwoNodes$|TestKilledIntoAStore$|TestKilledWithACache$|TestGLM5FromItsHeaders$)", "./cmd/glmconv", "-race=false"},
		{"^(TestHubFaults|TestHubExpiry|TestEveryFlippedBit)$", "./internal/reach", "-race=false"}, {"^TestSuite", "./internal/mutate", "-race=false"},
		{"^TestDamagedCopies$", "./verify/endpoint", "-race=false"}, {"^TestSoak$", "./serve", "-race"}} {
		cmd := exec.Command("go", "test", "-count=1", run.race, "-timeout", (4*long + 30*time.Minute).String(), "-run", run.tests, "-v", run.pkg) //nolint:gosec // constants and a duration
		cmd.Env = append(os.Environ(), "GLMCONV_TORTURE="+(long/shares).String(), "GLMCONV_TORTURE_COUNTS="+counts)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s of %s: %w", run.tests, run.pkg, err)
		}
	}
	return nil
}

// write puts counts into the page.
func write(doc, counts string) error {
	raw, err := os.ReadFile(counts)
	if err != nil {
		return err
	}
	list, err := parse(raw)
	if err != nil {
		return err
	}
	head := fmt.Sprintf("%s, %s/%s, %d cores: every promise was kept.", time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	page, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	page, err = replace(page, head+"\n\n"+table(list)+verdicts(list))
	if err != nil {
		return fmt.Errorf("%s: %w", doc, err)
	}
	return os.WriteFile(doc, page, 0o644) //nolint:gosec // a page of the repository
}

func parse(raw []byte) (list []count, err error) {
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		var c count
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// table sums the counts of each suite.
func table(list []count) string {
	var b strings.Builder
	b.WriteString("| suite | commands | tried | befell the command | skipped |\n|---|---|---|---|---|\n")
	var order []string
	sums := map[string]*count{}
	jobs := map[string]map[string]bool{}
	for _, c := range list {
		if c.Table != "" {
			continue
		}
		s := sums[c.Suite]
		if s == nil {
			s = &count{}
			sums[c.Suite], jobs[c.Suite], order = s, map[string]bool{}, append(order, c.Suite)
		}
		if jobs[c.Suite][c.Job] = true; c.Skipped != "" {
			s.Skipped = c.Skipped
		}
		s.Points += c.Points
		s.Hit += c.Hit
	}
	for _, name := range order {
		s := sums[name]
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %s |\n", name, len(jobs[name]), s.Points, s.Hit, s.Skipped)
	}
	return b.String()
}

// verdicts shows the suites: faults, which must get a negative verdict and be
// named, and benign changes, which must not. "" where none was run.
func verdicts(list []count) string {
	var b strings.Builder
	for _, c := range list {
		if c.Table == "" {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("\n| suite | group | kinds | tried | negative | named |\n|---|---|---|---|---|---|\n")
		}
		named := fmt.Sprint(c.Named)
		if c.Table == "benign" {
			named = ""
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s |\n", c.Table, c.Group, c.Kinds, c.Tried, c.Negative, named)
	}
	return b.String()
}

const from, to = "<!-- counts: written by make torture -->\n", "<!-- end of counts -->"

// replace puts text between the two marks.
func replace(page []byte, text string) ([]byte, error) {
	head, rest, ok := bytes.Cut(page, []byte(from))
	_, tail, ok2 := bytes.Cut(rest, []byte(to))
	if !ok || !ok2 {
		return nil, fmt.Errorf("lacks the marks %q and %q", strings.TrimSpace(from), to)
	}
	return bytes.Join([][]byte{head, []byte(from), []byte("\n" + text + "\n"), []byte(to), tail}, nil), nil
}
