package recipe

import (
	"fmt"
	"net"
	"strings"
	"unicode"
)

// shell quotes one word for a POSIX shell.
func shell(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,=@%+", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// systemd quotes one word of ExecStart: no variables, no specifiers.
func systemd(s string) string {
	plain := shell(s) == s && !strings.Contains(s, "%")
	if plain {
		return s
	}
	r := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "$$", "%", "%%")
	return `"` + r.Replace(s) + `"`
}

// split reads the words of a flag in the tables: spaces part them, single
// quotes keep them together.
func split(s string) []string {
	var out []string
	var word strings.Builder
	quoted, any := false, false
	for _, r := range s {
		switch {
		case r == '\'':
			quoted, any = !quoted, true
		case r == ' ' && !quoted:
			if any {
				out = append(out, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteRune(r)
			any = true
		}
	}
	if any {
		out = append(out, word.String())
	}
	return out
}

// checkText refuses what no command should carry: control characters
// anywhere, addresses that are none.
func (q *Query) checkText() error {
	for flag, v := range map[string]string{"DIR": q.Model.Path, "--served-model-name": q.ServedName, "--tools": q.Tools, "--reasoning": q.Reasoning,
		"--interface": q.Interface, "--image": q.Image} {
		if strings.IndexFunc(v, func(r rune) bool {
			return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar
		}) >= 0 {
			return usage("choose a name without them", "%s has control characters", flag)
		}
	}
	if strings.HasPrefix(q.Model.Path, "-") {
		return usage("write ./"+q.Model.Path, "DIR %q would be read as a flag", q.Model.Path)
	}
	if strings.HasPrefix(q.ServedName, "-") || strings.HasPrefix(q.Image, "-") {
		return usage("choose a name that begins otherwise", "a name that begins with - would be read as a flag")
	}
	if !word(q.Interface, "-_.:@") {
		return usage("such as eth0", "--interface %q is no interface", q.Interface)
	}
	for _, ip := range q.NodeIP {
		if ip == "" || net.ParseIP(ip) == nil && !word(ip, "-.:") || strings.HasPrefix(ip, "-") {
			return usage("letters, digits, dots, colons and hyphens", "--node-ip %q is no address", ip)
		}
	}
	want := q.Hardware.Nodes
	if q.Topology == "pd" {
		want = q.Prefill.Nodes + q.Decode.Nodes
	}
	if n := len(q.NodeIP); n > 0 && n != want {
		return usage(fmt.Sprintf("one address for each of %d nodes", want), "--node-ip has %d addresses", n)
	}
	return nil
}

// word reports whether s has letters, digits and the characters of more only.
func word(s, more string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(more, r)) {
			return false
		}
	}
	return true
}
