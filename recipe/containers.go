package recipe

import (
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/glmconv/glmconv/quant/engine"
)

// startSeconds is how long loading may take: a gigabyte a second, and a minute.
func (r *Recipe) startSeconds() int { return int(r.Weights/1e9) + 60 }

// mounted is the checkpoint's folder on the host, and argv with the folder in
// the container.
func (r *Recipe) mounted(n *Node) (host string, args []Arg) {
	host = r.Query.Model.Path
	if abs, err := filepath.Abs(host); err == nil {
		host = abs
	}
	args = append(args, n.Args...)
	at := -1 // the last: a folder may be called serve, too
	for i := range args {
		if args[i].Value == r.Query.Model.Path && (args[i].Flag == "" || args[i].Flag == "--model-path") {
			at = i
		}
	}
	if at >= 0 {
		args[at].Value = host
	}
	return host, args
}

// npuDevices are the device files of Atlas machines.
func (r *Recipe) npuDevices() []string {
	var out []string
	for i := range r.Query.Hardware.Devices {
		out = append(out, fmt.Sprintf("/dev/davinci%d", i))
	}
	return append(out, "/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
}

// driverMounts are the driver's files that the container needs.
func driverMounts() []string {
	var out []string
	for _, m := range table().Ascend.Docker.Mounts {
		if strings.HasPrefix(m, "/") {
			out = append(out, m)
		}
	}
	return out
}

func (r *Recipe) network() bool { return len(r.Nodes) > 1 || r.Query.Release.Engine == engine.Ascend }

// docker is one docker run a node.
func (r *Recipe) docker() []File {
	var out []File
	for i := range r.Nodes {
		n := &r.Nodes[i]
		host, args := r.mounted(n)
		var l list
		l.add("", "docker", "")
		l.add("", "run", "")
		l.mark("--rm", "")
		if r.Query.Release.Engine == engine.Ascend {
			l.add("--shm-size", "1g", "")
			for _, d := range r.npuDevices() {
				l.add("--device", d, "")
			}
			for _, m := range driverMounts() {
				l.add("--volume", m+":"+m+":ro", "")
			}
		} else {
			l.add("--ipc", "host", "")
		}
		switch r.Query.Hardware.Device.Vendor {
		case "nvidia":
			l.add("--gpus", "all", "")
		case "amd":
			for _, d := range []string{"/dev/kfd", "/dev/dri"} {
				l.add("--device", d, "")
			}
			l.add("--group-add", "video", "")
			l.add("--security-opt", "seccomp=unconfined", "")
		}
		if r.network() {
			l.add("--network", "host", "")
		} else {
			l.add("--publish", fmt.Sprintf("%d:%d", r.Port, r.Port), "")
		}
		l.add("--mount", "type=bind,readonly,source="+host+",target="+host, "")
		l.add("--env", "HF_HUB_OFFLINE=1", "")
		for _, e := range n.Env {
			if e.Value != rankDevices {
				l.add("--env", e.Name+"="+e.Value, "")
			}
		}
		inside := args
		if n.ranks != nil { // several servers: the script is the command
			inside = []Arg{{Value: "bash"}, {Value: "-c"}, {Value: (&Node{Args: args, ranks: n.ranks}).loop()}}
		}
		l.add("--entrypoint", inside[0].Value, "")
		l.add("", r.Images[0], "")
		l = append(l, inside[1:]...)
		text := "#!/usr/bin/env bash\nset -euo pipefail\n" + command(l, "") + "\n"
		out = append(out, File{Name: "docker-" + n.file() + ".sh", Exec: true, Data: []byte(text)})
	}
	return out
}

// only refuses forms for set-ups that they cannot describe.
func (r *Recipe) only(form string, ok bool, instead string) error {
	if ok {
		return nil
	}
	return usage("choose --out "+instead, "--out %s does not suit %d nodes", form, len(r.Nodes))
}

// marshal writes YAML documents.
func marshal(name string, docs ...any) ([]File, error) {
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	for _, d := range docs {
		if err := enc.Encode(d); err != nil {
			return nil, err
		}
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return []File{{Name: name, Data: []byte(b.String())}}, nil
}

type m = map[string]any

// compose is one service for a single node.
func (r *Recipe) compose() ([]File, error) {
	if err := r.only("compose", len(r.Nodes) == 1 && r.Router == nil, "script or docker"); err != nil {
		return nil, err
	}
	n := &r.Nodes[0]
	host, args := r.mounted(n)
	words := argv(args)
	env := m{"HF_HUB_OFFLINE": "1"}
	for _, e := range n.Env {
		env[e.Name] = dollars(e.Value)
	}
	for i := range words {
		words[i] = dollars(words[i])
	}
	s := m{
		"image": dollars(r.Images[0]), "entrypoint": words[:1], "command": words[1:], "environment": env, "restart": "unless-stopped",
		"volumes": []any{m{"type": "bind", "source": dollars(host), "target": dollars(host), "read_only": true}},
		"healthcheck": m{"test": []string{"CMD", "curl", "-f", fmt.Sprintf("http://localhost:%d/health", r.Port)},
			"interval": "15s", "timeout": "5s", "retries": 5, "start_period": fmt.Sprintf("%ds", r.startSeconds())},
	}
	switch r.Query.Hardware.Device.Vendor {
	case "nvidia":
		s["ipc"] = "host"
		s["deploy"] = m{"resources": m{"reservations": m{"devices": []any{m{"driver": "nvidia", "count": r.Query.Hardware.Devices, "capabilities": []string{"gpu"}}}}}}
	case "amd":
		s["ipc"], s["devices"] = "host", []string{"/dev/kfd:/dev/kfd", "/dev/dri:/dev/dri"}
	case "huawei":
		var devices []string
		for _, d := range r.npuDevices() {
			devices = append(devices, d+":"+d)
		}
		s["devices"], s["shm_size"] = devices, "1g"
		volumes := s["volumes"].([]any)
		for _, mount := range driverMounts() {
			volumes = append(volumes, m{"type": "bind", "source": mount, "target": mount, "read_only": true})
		}
		s["volumes"] = volumes
	}
	if r.network() {
		s["network_mode"] = "host"
	} else {
		s["ports"] = []string{fmt.Sprintf("%d:%d", r.Port, r.Port)}
	}
	return marshal("compose.yaml", m{"services": m{"server": s}})
}

// dollars keeps compose from filling variables in.
func dollars(s string) string { return strings.ReplaceAll(s, "$", "$$") }
