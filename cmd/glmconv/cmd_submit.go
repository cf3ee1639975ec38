package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"text/template"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/source"
)

func cmdSubmit() *cli.Command {
	return &cli.Command{
		Name:      "submit",
		Usage:     "print a job that shares a conversion among many machines",
		ArgsUsage: "slurm|k8s --parts N [flags] -- quantize --scheme S SRC DST",
		Description: "slurm prints a script for sbatch, k8s an indexed Job for kubectl apply -f -. Each\n" +
			"part is quantize --resume --index auto; the part that finds all others done completes\n" +
			"DST. The plan is made first, so that an impossible one fails here. Nothing is sent unless\n" +
			"--apply is given, which hands the job to sbatch or kubectl and prints what they answer.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "parts", Usage: "number of parts (required)"},
			&cli.StringFlag{Name: "plan", Usage: "`FILE` of plan --save, where all parts see it: they ask a remote source for no listing and no header"},
			&cli.BoolFlag{Name: "print", Usage: "print the job (default)"},
			&cli.BoolFlag{Name: "apply", Usage: "run sbatch --parsable or kubectl apply -f - with it, and print the job's id"},
			&cli.IntFlag{Name: "cpus", Aliases: []string{"cpu"}, Value: 8, Usage: "cores of a part"},
			&cli.StringFlag{Name: "mem", Aliases: []string{"memory"}, Usage: "memory of a part (default: --max-memory of the conversion and 512 MiB)"},
			&cli.StringFlag{Name: "time", Value: "04:00:00", Usage: "slurm: limit of a part"},
			&cli.StringFlag{Name: "partition", Usage: "slurm: partition"},
			&cli.StringFlag{Name: "account", Usage: "slurm: account"},
			&cli.IntFlag{Name: "array-limit", Usage: "slurm: parts at a time (default: all)"},
			&cli.StringFlag{Name: "image", Usage: "k8s: image with glmconv, by digest (required)"},
			&cli.StringFlag{Name: "namespace", Usage: "k8s: namespace"},
			&cli.StringSliceFlag{Name: "pvc", Usage: "k8s: `CLAIM:/MOUNT`, a claim that all parts can mount (repeatable); CLAIM:/MOUNT:rwo one that pods of a single node can, for --parts 1"},
			&cli.StringFlag{Name: "scratch", Usage: "k8s: what a part may take of its machine's disk for --cache and --scratch, as 20Gi, beside 1 GiB for temporary files"},
			&cli.StringFlag{Name: "secret", Usage: "k8s: secret whose keys become the environment (HF_TOKEN, AWS_…)"},
			&cli.StringFlag{Name: "service-account", Usage: "k8s: service account"},
			&cli.StringFlag{Name: "queue", Usage: "k8s: queue of Kueue"},
		},
		Action: submit,
	}
}

// batch is what the templates are filled with.
type batch struct {
	Name, Command                            string
	Args                                     []string
	Parts, CPUs                              int
	Mem, Time, Partition, Account            string
	Limit                                    int
	Image, Namespace, Secret, Service, Queue string
	Volumes                                  []volume
	Dirs                                     []string // on the machine's disk
	Scratch, Ephemeral                       int64    // bytes of it: for Dirs each, in all
}

type volume struct{ Name, Claim, Mount string }

func submit(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) < 2 || args[0] != "slurm" && args[0] != "k8s" || args[1] != "quantize" {
		return usagef("submit needs slurm or k8s and, after --, a quantize command: glmconv submit slurm --parts 16 -- quantize --scheme w4a8 SRC DST")
	}
	if c.Int("parts") < 1 || c.Int("cpus") < 1 {
		return usagef("--parts and --cpus must be at least 1")
	}
	if c.Bool("print") && c.Bool("apply") {
		return usagef("give --print or --apply, not both")
	}
	rest := args[2:]
	if len(rest) == 0 {
		return usagef("quantize needs its arguments: quantize --scheme w4a8 SRC DST")
	}
	for _, a := range rest {
		if name, _, isFlag := splitFlag(a); isFlag && slices.Contains([]string{"index", "count", "resume", "dry-run", "plan"}, name) {
			return usagef("leave --%s out of the command: submit sets it", name)
		}
	}
	if plan := c.String("plan"); plan != "" {
		if !strings.HasPrefix(plan, "/") {
			fmt.Fprintf(c.App.ErrWriter, "warning: %s is a relative path: parts look for it where they run\n", plan)
		}
		rest = append([]string{"--plan", plan}, rest...)
	}
	var said, failed bytes.Buffer
	if code := run(c.Context, append([]string{"glmconv", "quantize", "--dry-run"}, rest...), &said, &failed); code != 0 {
		return &exitError{code: code, err: errors.New(strings.TrimPrefix(strings.TrimSpace(failed.String()), "glmconv: "))}
	}
	h := fnv.New32a()
	fmt.Fprintf(h, "%q", rest)
	j := batch{Name: fmt.Sprintf("glmconv-%08x", h.Sum32()), Args: append([]string{"quantize", "--resume", "--index", "auto", "--count", fmt.Sprint(c.Int("parts")), "--progress", "json"}, rest...),
		Parts: c.Int("parts"), CPUs: c.Int("cpus"), Mem: c.String("mem"), Time: c.String("time"), Partition: c.String("partition"), Account: c.String("account"),
		Limit: c.Int("array-limit"), Image: c.String("image"), Namespace: c.String("namespace"), Secret: c.String("secret"), Service: c.String("service-account"), Queue: c.String("queue")}
	var job bytes.Buffer
	words, fill := []string{"kubectl", "apply", "-f", "-"}, submitK8s
	if args[0] == "slurm" {
		words, fill = []string{"sbatch", "--parsable"}, submitSlurm
	}
	if err := fill(c, &job, j, rest); err != nil {
		return err
	}
	if c.Bool("apply") {
		return apply(c, words, &job)
	}
	_, err := job.WriteTo(c.App.Writer)
	return err
}

// apply hands a job to the program that takes it, which prints the job's id.
func apply(c *cli.Context, words []string, job io.Reader) error {
	program, err := exec.LookPath(words[0])
	if err != nil {
		return usagef("%s is not on PATH: without --apply the job is printed", words[0])
	}
	cmd := exec.CommandContext(c.Context, program, words[1:]...) //nolint:gosec // the words are ours
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = job, c.App.Writer, c.App.ErrWriter
	if err := cmd.Run(); err != nil {
		if c.Context.Err() != nil {
			return c.Context.Err()
		}
		return &exitError{code: exitIO, err: fmt.Errorf("%s did not take the job: %w", words[0], err)}
	}
	return nil
}

func submitSlurm(c *cli.Context, w io.Writer, j batch, rest []string) error {
	for _, name := range []string{"scratch", "pvc", "image"} {
		if c.IsSet(name) {
			return usagef("--%s is for k8s", name)
		}
	}
	for _, v := range []string{j.Mem, j.Time, j.Partition, j.Account} {
		if strings.ContainsAny(v, " \t\n\"'$`;#") {
			return usagef("%q has characters that a flag of Slurm cannot have", v)
		}
	}
	if err := j.memory(c, rest, "M"); err != nil {
		return err
	}
	words := []string{"glmconv"}
	for _, a := range j.Args {
		words = append(words, shellQuote(a))
	}
	j.Command = strings.Join(words, " ")
	if dst := rest[len(rest)-1]; source.Scheme(dst) == "" && !strings.HasPrefix(dst, "/") {
		fmt.Fprintf(c.App.ErrWriter, "warning: %s is a relative path: it is relative to where sbatch is called\n", dst)
	}
	return slurmScript().Execute(w, j)
}

// shellQuote quotes an argument for a POSIX shell where it must be.
func shellQuote(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@=,+", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var slurmScript = parsed("slurm", `#!/bin/bash
#SBATCH --job-name={{.Name}} --array=1-{{.Parts}}{{if .Limit}}%{{.Limit}}{{end}} --requeue --open-mode=append --output={{.Name}}-%A_%a.log
#SBATCH --cpus-per-task={{.CPUs}} --mem={{.Mem}} --time={{.Time}} --signal=B:TERM@60
{{if .Partition}}#SBATCH --partition={{.Partition}}
{{end}}{{if .Account}}#SBATCH --account={{.Account}}
{{end}}{{.Command}} & pid=$!
trap 'kill -TERM $pid' TERM; wait $pid; rc=$?; if [ $rc -gt 128 ]; then wait $pid; rc=$?; fi
case $rc in 74|75|130|143) [ "${SLURM_RESTART_COUNT:-0}" -lt 3 ] && exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" ;; esac
exit $rc
`)

func submitK8s(c *cli.Context, w io.Writer, j batch, rest []string) error {
	if j.Image == "" {
		return usagef("--image is required: the image that has glmconv, as registry/name@sha256:…")
	}
	if !strings.Contains(j.Image, "@sha256:") {
		fmt.Fprintf(c.App.ErrWriter, "warning: %s is not a digest: parts may run different versions\n", j.Image)
	}
	if err := j.memory(c, rest, "Mi"); err != nil {
		return err
	}
	if err := podStorage(c, &j, rest); err != nil {
		return err
	}
	return k8sJob().Execute(w, j)
}

// Strings are quoted as Go does, which YAML reads as its double-quoted form.
var k8sJob = parsed("k8s", `apiVersion: batch/v1
kind: Job
metadata:
  name: {{.Name}}
{{- if .Namespace}}
  namespace: {{printf "%q" .Namespace}}
{{- end}}
{{- if .Queue}}
  labels: {kueue.x-k8s.io/queue-name: {{printf "%q" .Queue}}}
{{- end}}
spec:
{{- if .Queue}}
  suspend: true
{{- end}}
  completionMode: Indexed
  completions: {{.Parts}}
  parallelism: {{.Parts}}
  backoffLimitPerIndex: 3
  maxFailedIndexes: 0
  podReplacementPolicy: Failed
  ttlSecondsAfterFinished: 86400
  podFailurePolicy:
    rules:
    - {action: FailJob, onExitCodes: {containerName: glmconv, operator: In, values: [2, 65]}}
    - {action: Ignore, onPodConditions: [{type: DisruptionTarget, status: "True"}]}
    - {action: Count, onExitCodes: {containerName: glmconv, operator: In, values: [74, 75, 130, 137, 143]}}
  template:
    spec:
      restartPolicy: Never
{{- if .Service}}
      serviceAccountName: {{printf "%q" .Service}}
{{- else}}
      automountServiceAccountToken: false
{{- end}}
      securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: glmconv
        image: {{printf "%q" .Image}}
        command: [glmconv]
        args:
{{- range .Args}}
        - {{printf "%q" .}}
{{- end}}
        env:
        - {name: TMPDIR, value: /tmp}
{{- if .Secret}}
        envFrom:
        - secretRef: {name: {{printf "%q" .Secret}}}
{{- end}}
        resources:
          requests: {cpu: {{.CPUs}}, memory: {{printf "%q" .Mem}}, ephemeral-storage: {{.Ephemeral}}}
          limits: {memory: {{printf "%q" .Mem}}, ephemeral-storage: {{.Ephemeral}}}
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        volumeMounts:
        - {name: tmp, mountPath: /tmp}
{{- range .Volumes}}
        - {name: {{.Name}}, mountPath: {{printf "%q" .Mount}}}
{{- end}}
{{- range $i, $dir := .Dirs}}
        - {name: scratch-{{$i}}, mountPath: {{printf "%q" $dir}}}
{{- end}}
      volumes:
      - {name: tmp, emptyDir: {sizeLimit: {{.Ephemeral}}}}
{{- range .Volumes}}
      - {name: {{.Name}}, persistentVolumeClaim: {claimName: {{printf "%q" .Claim}}}}
{{- end}}
{{- range $i, $dir := .Dirs}}
      - {name: scratch-{{$i}}, emptyDir: {sizeLimit: {{$.Scratch}}}}
{{- end}}
`)

// parsed returns a template that is parsed when it is first used.
func parsed(name, text string) func() *template.Template {
	return sync.OnceValue(func() *template.Template { return template.Must(template.New(name).Parse(text)) })
}
