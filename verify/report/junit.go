package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/glmconv/glmconv/verify"
)

type junitSuites struct {
	XMLName  xml.Name   `xml:"testsuites"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Errors   int        `xml:"errors,attr"`
	Time     string     `xml:"time,attr"`
	Suite    junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
	Out        string          `xml:"system-out"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Error   *junitMessage `xml:"error"`
	Skipped *junitMessage `xml:"skipped"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// JUnit writes r as JUnit XML: one test case per check. A check that failed is
// a failure, one that could not be decided an error (so a CI system does not
// show it as passed), one that was not measured is skipped. The whole time
// stands on the suite.
func JUnit(w io.Writer, r *verify.Result) error {
	seconds := fmt.Sprintf("%.3f", max(r.Seconds, 0))
	s := junitSuite{Name: "glmconv verify", Time: seconds, Out: Text(r), Properties: []junitProperty{
		{"verdict", string(r.Verdict)},
		{"source", clean(r.Identity.Source)},
		{"result", clean(r.Identity.Result)},
		{"version", clean(r.Identity.Version)},
		{"profile", clean(r.Profile.Name)},
		{"tol", num(r.Tol)},
		{"tokens", fmt.Sprint(r.Tokens)},
		{"mean_kl", num(r.KL.Mean)},
		{"upper95_kl", num(r.KL.Upper95)},
	}}
	for _, c := range checks(r) {
		tc := junitCase{Class: "glmconv.verify", Name: c.Title, Time: "0"}
		switch c.State {
		case failed:
			s.Failures++
			m := &junitMessage{Message: c.Line, Type: c.ID}
			lines := make([]string, 0, len(c.Failed)+1)
			for _, f := range c.Failed {
				lines = append(lines, sentence(f))
			}
			if len(lines) > 0 {
				m.Message = lines[0]
			}
			if r.Cause != "" {
				lines = append(lines, "cause: "+clean(r.Cause))
			}
			m.Text = strings.Join(lines, "\n")
			tc.Failure = m
		case undecided:
			s.Errors++
			tc.Error = &junitMessage{Message: "undecided: " + clean(r.Reason), Type: "undecided", Text: c.Line}
		case skipped:
			s.Skipped++
			tc.Skipped = &junitMessage{Message: c.Line}
		}
		s.Cases = append(s.Cases, tc)
	}
	// A verdict that no check accounts for must not look like a pass.
	if r.Verdict != verify.Pass && s.Failures+s.Errors == 0 {
		s.Errors++
		s.Cases = append(s.Cases, junitCase{Class: "glmconv.verify", Name: "Verdict", Time: "0", Error: &junitMessage{Message: string(r.Verdict) + ": " + clean(r.Reason), Type: string(r.Verdict)}})
	}
	s.Tests = len(s.Cases)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(junitSuites{Name: s.Name, Tests: s.Tests, Failures: s.Failures, Errors: s.Errors, Time: seconds, Suite: s}); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}
