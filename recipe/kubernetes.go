package recipe

import (
	"fmt"
	"strconv"
	"strings"
)

// label is a name that Kubernetes takes: lower case, digits and hyphens.
func (r *Recipe) label() string {
	name := r.Query.ServedName
	if name == "" {
		name = r.Query.Model.Name
	}
	var b strings.Builder
	for _, c := range strings.ToLower(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteRune(c)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	s := strings.Trim(b.String()[:min(b.Len(), 40)], "-")
	if s == "" || s[0] < 'a' {
		s = strings.TrimSuffix("glm-"+s, "-")
	}
	return s
}

// resource is the name under which a cluster counts devices.
func (r *Recipe) resource() string {
	return map[string]string{"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "huawei": "huawei.com/Ascend910"}[r.Query.Hardware.Device.Vendor]
}

// container is a node's process in a pod. In a LeaderWorkerSet addresses and
// ranks are the set's variables.
func (r *Recipe) container(n *Node, lws bool) m {
	host, args := r.mounted(n)
	words := argv(args)
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "$(", "$$(")
		if lws {
			words[i] = strings.ReplaceAll(words[i], r.Query.address(0), "$(LWS_LEADER_ADDRESS)")
		}
	}
	env := []any{m{"name": "HF_HUB_OFFLINE", "value": "1"}}
	for _, e := range n.Env {
		v := m{"name": e.Name, "value": strings.ReplaceAll(e.Value, "$(", "$$(")}
		switch {
		case e.Name == "HCCL_IF_IP":
			v = m{"name": e.Name, "valueFrom": m{"fieldRef": m{"fieldPath": "status.podIP"}}}
		case e.Value == "<interface>":
			v["value"] = "eth0"
		}
		env = append(env, v)
	}
	devices := strconv.Itoa(r.Query.Hardware.Devices)
	c := m{
		"name": "server", "image": r.Images[0], "command": words[:1], "args": words[1:], "env": env,
		"resources":    m{"requests": m{r.resource(): devices}, "limits": m{r.resource(): devices}},
		"volumeMounts": []any{m{"name": "model", "mountPath": host, "readOnly": true}, m{"name": "shm", "mountPath": "/dev/shm"}},
	}
	if n.Rank == 0 {
		probe := m{"httpGet": m{"path": "/health", "port": r.Port}}
		c["ports"] = []any{m{"containerPort": r.Port, "name": "http"}}
		c["startupProbe"] = m{"httpGet": probe["httpGet"], "periodSeconds": 10, "failureThreshold": r.startSeconds()/10 + 1}
		c["readinessProbe"] = m{"httpGet": probe["httpGet"], "periodSeconds": 10}
	}
	return c
}

// pod is the specification of a node's pod.
func (r *Recipe) pod(n *Node, lws bool) m {
	host, _ := r.mounted(n)
	return m{
		"containers": []any{r.container(n, lws)},
		"volumes": []any{
			m{"name": "model", "hostPath": m{"path": host, "type": "Directory"}},
			m{"name": "shm", "emptyDir": m{"medium": "Memory"}},
		},
	}
}

func (r *Recipe) service(selector m) m {
	return m{"apiVersion": "v1", "kind": "Service", "metadata": m{"name": r.label()},
		"spec": m{"selector": selector, "ports": []any{m{"name": "http", "port": r.Port, "targetPort": r.Port}}}}
}

// kubernetes is a Deployment with its Service.
func (r *Recipe) kubernetes() ([]File, error) {
	if err := r.only("k8s", len(r.Nodes) == 1 && r.Router == nil, "lws"); err != nil {
		return nil, err
	}
	labels := m{"app": r.label()}
	deployment := m{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": m{"name": r.label()},
		"spec": m{"replicas": 1, "strategy": m{"type": "Recreate"}, "selector": m{"matchLabels": labels},
			"template": m{"metadata": m{"labels": labels}, "spec": r.pod(&r.Nodes[0], false)}}}
	return marshal("kubernetes.yaml", deployment, r.service(labels))
}

// leaderWorkerSet is a group of pods for one server on several nodes. The
// workers share one template: their rank is the set's variable.
func (r *Recipe) leaderWorkerSet() ([]File, error) {
	if err := r.only("lws", len(r.Nodes) > 1 && r.Router == nil, "k8s, or script for prefill and decode groups"); err != nil {
		return nil, err
	}
	name := r.label()
	worker := r.Nodes[1]
	worker.Args = append([]Arg(nil), worker.Args...)
	for i, a := range worker.Args {
		switch a.Flag {
		case "--node-rank":
			worker.Args[i].Value = "\x01(LWS_WORKER_INDEX)"
		case "--data-parallel-start-rank":
			if a.Value != "1" { // more than one rank a node: a shell multiplies
				return r.shellWorkers(name, a.Value)
			}
			worker.Args[i].Value = "\x01(LWS_WORKER_INDEX)"
		}
	}
	return r.set(name, r.pod(&r.Nodes[0], true), variables(r.pod(&worker, true)))
}

// shellWorkers starts workers through a shell, which multiplies the rank.
func (r *Recipe) shellWorkers(name, local string) ([]File, error) {
	worker := r.Nodes[1]
	pod := r.pod(&worker, true)
	c := pod["containers"].([]any)[0].(m)
	words := append(c["command"].([]string), c["args"].([]string)...)
	var line []string
	for i, w := range words {
		switch {
		case i > 0 && words[i-1] == "--data-parallel-start-rank":
			line = append(line, fmt.Sprintf("$((LWS_WORKER_INDEX * %s))", local))
		case w == "$(LWS_LEADER_ADDRESS)":
			line = append(line, `"$LWS_LEADER_ADDRESS"`)
		default:
			line = append(line, strings.ReplaceAll(shell(strings.ReplaceAll(w, "$$(", "$(")), "$(", "$$("))
		}
	}
	text := strings.Join(line, " ")
	c["command"], c["args"] = []string{"sh", "-c"}, []string{"exec " + strings.ReplaceAll(text, "$((", "$$((")}
	return r.set(name, r.pod(&r.Nodes[0], true), pod)
}

// variables puts the set's variables where a sign stood for them.
func variables(pod m) m {
	c := pod["containers"].([]any)[0].(m)
	args := c["args"].([]string)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "\x01(", "$(")
	}
	return pod
}

func (r *Recipe) set(name string, leader, worker m) ([]File, error) {
	labels := m{"app": name, "role": "leader"}
	set := m{"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": m{"name": name},
		"spec": m{"replicas": 1, "leaderWorkerTemplate": m{
			"size": len(r.Nodes), "restartPolicy": "RecreateGroupOnPodRestart",
			"leaderTemplate": m{"metadata": m{"labels": labels}, "spec": leader},
			"workerTemplate": m{"metadata": m{"labels": m{"app": name, "role": "worker"}}, "spec": worker},
		}}}
	return marshal("leaderworkerset.yaml", set, r.service(labels))
}
