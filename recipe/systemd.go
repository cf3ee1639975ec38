package recipe

import (
	"fmt"
	"slices"
	"strings"
)

// etc is where units look for files of their own.
const etc = "/etc/glm/"

// units are one systemd unit a node with its environment file, the script of a node
// that starts several servers, and the router.
func (r *Recipe) units() []File {
	nodes := slices.Clone(r.Nodes)
	if r.Router != nil {
		nodes = append(nodes, *r.Router)
	}
	var out []File
	for i := range nodes {
		n, router := nodes[i], i >= len(r.Nodes)
		if !router {
			_, n.Args = r.mounted(&n) // a unit has no folder that others are relative to
		}
		name, env := "glm-"+n.file(), n.envFile()
		words := argv(n.Args)
		var script []File
		if n.ranks != nil {
			words = []string{"bash", etc + n.file() + ".sh"}
			script = []File{{Name: n.file() + ".sh", Exec: true, Data: []byte(r.script(&n, ""))}}
			for _, p := range n.open() {
				env.Data = fmt.Appendf(env.Data, "# read by the script\n%s=%s\n", variableOf(p), p)
			}
		}
		words = append([]string{"/usr/bin/env"}, words...)
		if router {
			words = append([]string{words[0], "-u", "http_proxy", "-u", "https_proxy"}, words[1:]...)
		}
		for k := range words {
			words[k] = systemd(words[k])
		}
		text := fmt.Sprintf("# %s\n[Unit]\nDescription=%s\nAfter=network-online.target\nWants=network-online.target\n\n[Service]\nType=exec\n"+
			"DynamicUser=yes\nStateDirectory=%s\nEnvironment=HOME=/var/lib/%s HF_HUB_OFFLINE=1\nEnvironmentFile=%s\nExecStart=%s\nRestart=on-failure\nTimeoutStartSec=%d\nLimitMEMLOCK=infinity\n\n"+
			"[Install]\nWantedBy=multi-user.target\n", r.title(), "GLM "+n.name(), name, name, etc+env.Name, strings.Join(words, " \\\n  "), r.startSeconds())
		out = append(append(out, File{Name: name + ".service", Data: []byte(text)}, env), script...)
	}
	return out
}
