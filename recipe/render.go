package recipe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/progress"
)

// Forms are the forms of output, in the order of help texts.
var Forms = []string{"command", "script", "docker", "compose", "k8s", "lws", "systemd", "env", "json"}

// File is one rendered file.
type File struct {
	Name string
	Data []byte
	Exec bool
}

// Render prints a recipe that fits in one of Forms; several files follow each
// other with their names in comments. The error is a *UsageError for a form
// that does not suit the topology.
func (r *Recipe) Render(form string) (string, error) {
	files, err := r.Files(form)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i, f := range files {
		if len(files) > 1 {
			if i > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "# --- %s ---\n", f.Name)
		}
		b.Write(f.Data)
	}
	return b.String(), nil
}

// Files is Render as files.
func (r *Recipe) Files(form string) ([]File, error) {
	if form == "json" {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return nil, err
		}
		return []File{{Name: "recipe.json", Data: b.Bytes()}}, nil
	}
	if r.Refused != nil {
		return nil, usage("", "a refused recipe has no %s", form)
	}
	switch form {
	case "command":
		return []File{{Name: "commands.sh", Data: []byte(r.commands())}}, nil
	case "script":
		return r.scripts(), nil
	case "env":
		return r.envFiles(), nil
	case "docker":
		return r.docker(), nil
	case "compose":
		return r.compose()
	case "k8s":
		return r.kubernetes()
	case "lws":
		return r.leaderWorkerSet()
	case "systemd":
		return r.units(), nil
	}
	return nil, usage("the forms are "+strings.Join(Forms, ", "), "--out %q is unknown", form)
}

// title is one line on what the recipe is.
func (r *Recipe) title() string {
	m := r.Memory
	return fmt.Sprintf("%s on %s: %s, %s of weights a rank, room for %s tokens (%s x %s). %s: %s.", r.Query.Release.Title(), r.Query.Hardware,
		r.Degrees, progress.Bytes(m.Weights.Total()), progress.Thousands(r.Capacity.Tokens), progress.Thousands(r.Capacity.Requests),
		progress.Thousands(int64(r.Capacity.Length)), strings.ToUpper(r.Cell.Status[:1])+r.Cell.Status[1:], r.Cell.Source)
}

// commands is everything to type, node by node, with the reasons above.
func (r *Recipe) commands() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", r.title())
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "# note: %s\n", w)
	}
	many := len(r.Nodes) > 1
	for i := range r.Nodes {
		n := &r.Nodes[i]
		if many {
			fmt.Fprintf(&b, "\n# %s\n", n.name())
		}
		b.WriteString(n.shell(many))
	}
	if r.Router != nil {
		b.WriteString("\n# router\nunset http_proxy https_proxy\n" + r.Router.shell(false))
	}
	for _, s := range r.then() {
		fmt.Fprintf(&b, "# then: %s\n", s)
	}
	return b.String()
}

// then are the commands for the server that runs: does it answer, does it
// compute what the files say and do what clients rely on, how fast is it. A
// router drops what the second one reads. DIR stands for a checkpoint that was
// given by its name.
func (r *Recipe) then() []string {
	url := fmt.Sprintf("http://HOST:%d", r.Port)
	dir, server, note := shell(r.Query.Model.Path), url, ""
	if r.Query.Model.asked != "" {
		dir = "DIR"
	}
	if r.Router != nil {
		server, note = "http://NODE:PORT", "   # each prefill and decode server, not the router"
	}
	verify := fmt.Sprintf("glmconv verify %s --endpoint %s --functional%s", dir, server, note)
	return []string{"curl -f " + url + "/health", verify, fmt.Sprintf("glmconv bench %s --tokenizer %s", url, dir)}
}

// name is "prefill node 1".
func (n *Node) name() string { return fmt.Sprintf("%s node %d", n.Role, n.Rank) }

// shell is a node's environment and command, in a subshell where others follow.
func (n *Node) shell(group bool) string {
	if n.ranks != nil {
		return n.loop()
	}
	var b strings.Builder
	indent := ""
	if group && len(n.Env) > 0 {
		b.WriteString("(\n")
		indent = "  "
	}
	why := func(s string) {
		if s != "" {
			fmt.Fprintf(&b, "%s# %s\n", indent, s)
		}
	}
	for _, e := range n.Env {
		why(e.Why)
		fmt.Fprintf(&b, "%sexport %s=%s\n", indent, e.Name, shell(e.Value))
	}
	for _, a := range n.Args {
		if a.Why != "" && a.Flag != "" {
			why(a.Flag + ": " + a.Why)
		}
	}
	b.WriteString(indent + command(n.Args, indent) + "\n")
	if indent != "" {
		b.WriteString(")\n")
	}
	return b.String()
}

// command is the words of a command, one flag a line.
func command(args []Arg, indent string) string {
	var b strings.Builder
	for i, a := range args {
		words := a.words()
		for j := range words {
			words[j] = rankWord(words[j])
		}
		switch {
		case i == 0:
		case a.Flag == "" || a.Flag == "-m":
			b.WriteString(" ")
		default:
			b.WriteString(" \\\n" + indent + "  ")
		}
		b.WriteString(strings.Join(words, " "))
	}
	return b.String()
}

// rankWord quotes a word; those that differ by rank are shell variables.
func rankWord(s string) string {
	switch s {
	case rankPort:
		return `"$port"`
	case rankNumber:
		return `"$rank"`
	case rankDevices:
		return `"$devices"`
	}
	return shell(s)
}

// loop starts a node's ranks, waits for all of them, and ends with the first
// failure, killing the rest.
func (n *Node) loop() string {
	r := n.ranks
	var b strings.Builder
	for _, e := range n.Env {
		if e.Value != rankDevices {
			if e.Why != "" {
				fmt.Fprintf(&b, "# %s\n", e.Why)
			}
			fmt.Fprintf(&b, "export %s=%s\n", e.Name, shell(e.Value))
		}
	}
	fmt.Fprintf(&b, "pids=()\ntrap 'kill \"${pids[@]}\" 2>/dev/null || true' EXIT\n")
	fmt.Fprintf(&b, "for i in $(seq 0 %d); do\n", r.Local-1)
	fmt.Fprintf(&b, "  port=$((%d + i))\n  rank=$((%d + i))\n  devices=$(seq -s, $((i * %d)) $((i * %d + %d)))\n", r.Port, r.Start, r.TP, r.TP, r.TP-1)
	fmt.Fprintf(&b, "  ASCEND_RT_VISIBLE_DEVICES=\"$devices\" %s &\n  pids+=($!)\ndone\n", command(n.Args, "  "))
	b.WriteString("for _ in \"${pids[@]}\"; do\n  wait -n || exit $?\ndone\n")
	return b.String()
}

// scripts are one bash file a node.
func (r *Recipe) scripts() []File {
	var out []File
	for i := range r.Nodes {
		n := &r.Nodes[i]
		out = append(out, File{Name: n.file() + ".sh", Exec: true, Data: []byte(r.script(n, ""))})
	}
	if r.Router != nil {
		out = append(out, File{Name: "router.sh", Exec: true, Data: []byte(r.script(r.Router, "unset http_proxy https_proxy\n"))})
	}
	return out
}

// file is a node's name in file names: "server-0", "node-p1".
func (n *Node) file() string {
	switch n.Role {
	case "prefill", "decode":
		return fmt.Sprintf("node-%c%d", n.Role[0], n.Rank)
	}
	return fmt.Sprintf("%s-%d", n.Role, n.Rank)
}

func (r *Recipe) script(n *Node, before string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#!/usr/bin/env bash\n# %s\nset -euo pipefail\n%s", r.title(), before)
	open := n.open()
	b.WriteString(addresses(open))
	b.WriteString(fillIn(n.shell(false), open))
	return b.String()
}

// open lists the placeholders of a node.
func (n *Node) open() []string {
	var out []string
	find := func(s string) {
		for {
			i := strings.IndexByte(s, '<')
			j := strings.IndexByte(s, '>')
			if i < 0 || j < i {
				return
			}
			if p := s[i : j+1]; !slices.Contains(out, p) && word(p[1:len(p)-1], "-") {
				out = append(out, p)
			}
			s = s[j+1:]
		}
	}
	for _, e := range n.Env {
		find(e.Value)
	}
	for _, a := range n.Args {
		if a.Flag != "" || strings.HasPrefix(a.Value, "<node") {
			find(a.Value)
		}
	}
	return out
}

// variableOf is the shell variable for a placeholder: <node0-ip> is node0_ip.
func variableOf(p string) string { return strings.ReplaceAll(strings.Trim(p, "<>"), "-", "_") }

// addresses are the checks that the script's variables are set.
func addresses(open []string) string {
	var b strings.Builder
	for _, p := range open {
		v := variableOf(p)
		if v == "interface" {
			b.WriteString(": \"${interface:=$(ip -o route get 1.1.1.1 | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p')}\"\n")
		}
		fmt.Fprintf(&b, ": \"${%s:?set %s}\"\n", v, v)
	}
	return b.String()
}

// fillIn replaces quoted placeholders by variables.
func fillIn(text string, open []string) string {
	for _, p := range open {
		text = strings.ReplaceAll(text, p, "'\"${"+variableOf(p)+"}\"'")
	}
	return text
}

// envFiles are the variables of each node, KEY=value.
func (r *Recipe) envFiles() []File {
	var out []File
	for i := range r.Nodes {
		out = append(out, r.Nodes[i].envFile())
	}
	return out
}

func (n *Node) envFile() File {
	var b strings.Builder
	for _, e := range n.Env {
		if e.Value != rankDevices {
			fmt.Fprintf(&b, "# %s\n%s=%s\n", e.Why, e.Name, e.Value)
		}
	}
	return File{Name: n.file() + ".env", Data: []byte(b.String())}
}
