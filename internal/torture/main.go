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

// count is a line of the sweeps.
type count struct {
	Suite, Job, Skipped string
	Points, Hit         int
}

// shares is how much of the budget of one suite all of them take together.
const shares = 4

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

// sweep runs the sweeps, which add their counts to a file.
func sweep(long time.Duration, counts string) error {
	cmd := exec.Command("go", "test", "-count=1", "-timeout", (4 * long).String(), "-run", "^TestSweep", "-v", "./cmd/glmconv") //nolint:gosec // a duration
	cmd.Env = append(os.Environ(), "GLMCONV_TORTURE="+(long/shares).String(), "GLMCONV_TORTURE_COUNTS="+counts)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the sweeps: %w", err)
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
	page, err = replace(page, head+"\n\n"+table(list))
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
