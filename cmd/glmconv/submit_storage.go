package main

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/source"
)

// podTemporary is the folder of a pod for temporary files, and what is set aside
// for it beside --scratch.
const (
	podTemporary      = "/tmp"
	podTemporaryBytes = 1 << 30
)

// folderFlags of quantize name folders that a part writes into beside DST.
var folderFlags = []string{"cache", "scratch"}

// podStorage mounts claims and what a part writes on the disk of its machine. The
// root of a pod is read-only: a folder that nothing is mounted at cannot be written.
func podStorage(c *cli.Context, j *batch, rest []string) error {
	for i, text := range c.StringSlice("pvc") {
		claim, mount, ok := strings.Cut(text, ":")
		mount, mode, _ := strings.Cut(mount, ":")
		if !ok || claim == "" || !strings.HasPrefix(mount, "/") || mode != "" && mode != "rwx" && mode != "rwo" {
			return usagef("--pvc must be CLAIM:/MOUNT, with :rwo or :rwx behind it where that is known, not %q", text)
		}
		if mode == "rwo" && j.Parts > 1 {
			return usagef("--pvc %s is a claim that pods of one node alone can mount (ReadWriteOnce), and %d parts run on several: use a claim of ReadWriteMany, a bucket (s3://) for DST, or --parts 1", text, j.Parts)
		}
		j.Volumes = append(j.Volumes, volume{fmt.Sprintf("data-%d", i), claim, mount})
	}
	scratch := int64(0)
	if text := c.String("scratch"); text != "" {
		var err error
		if scratch, err = quantity(text); err != nil || scratch <= 0 {
			return usagef("--scratch must be a size such as 20Gi, not %q", text)
		}
	}
	j.Ephemeral, j.Scratch = scratch+podTemporaryBytes, scratch
	for _, name := range folderFlags {
		dir := valueIn(rest, name)
		if dir == "" || dir == "none" || j.claimed(dir) {
			continue
		}
		switch {
		case !strings.HasPrefix(dir, "/"):
			return usagef("--%s %s is a relative path, and the root of a pod is read-only: name a folder of a claim (--pvc CLAIM:/MOUNT) or another absolute path", name, dir)
		case scratch == 0:
			return usagef("--%s %s lies in no claim: say how much of its machine's disk a part may take for it (--scratch 200Gi), or name a folder of a claim", name, dir)
		case path.Clean(dir) == podTemporary || within(dir, podTemporary) || slices.Contains(j.Dirs, path.Clean(dir)):
		default:
			j.Dirs = append(j.Dirs, path.Clean(dir))
		}
	}
	if dst := rest[len(rest)-1]; source.Scheme(dst) == "" && !j.claimed(dst) {
		fmt.Fprintf(c.App.ErrWriter, "warning: %s lies in no claim (--pvc CLAIM:/MOUNT): parts cannot write it, the root of a pod is read-only, and do not share it\n", dst)
	}
	return nil
}

// beside is what a part takes beside --max-memory: the program, and what the kernel
// keeps for its files and connections.
const beside = 512 << 20

// memory sets what a part is given where --mem does not, in MiB with a unit, and warns
// of less than its conversion may take.
func (j *batch) memory(c *cli.Context, rest []string, unit string) error {
	text := valueIn(rest, "max-memory")
	if text == "" {
		text = defaultMemory
	}
	takes, err := progress.ParseBytes(text)
	if err != nil {
		return usagef("--max-memory: %w", err)
	}
	takes += beside
	if j.Mem == "" {
		j.Mem = fmt.Sprintf("%d%s", (takes+(1<<20)-1)>>20, unit)
		return nil
	}
	size := j.Mem
	if unit == "M" { // Slurm's units are powers of 1024, MiB where there is none
		size = strings.TrimRight(size, "KMGTkmgt")
		size += strings.ToUpper(cmp.Or(j.Mem[len(size):], unit)) + "i"
	}
	if given, err := quantity(size); err == nil && given < takes-beside {
		fmt.Fprintf(c.App.ErrWriter, "warning: --mem %s is less than the conversion may take (--max-memory %s, and %s beside it): parts that take it are killed\n", j.Mem, text, progress.Bytes(beside))
	}
	return nil
}

// claimed reports whether a folder lies in a claim.
func (j *batch) claimed(dir string) bool {
	return slices.ContainsFunc(j.Volumes, func(v volume) bool { return path.Clean(dir) == path.Clean(v.Mount) || within(dir, v.Mount) })
}

// within reports whether a path lies below a folder.
func within(p, dir string) bool {
	return strings.HasPrefix(path.Clean(p), strings.TrimSuffix(path.Clean(dir), "/")+"/")
}

// quantity reads a size as Kubernetes writes it: 20Gi, 500M.
func quantity(text string) (int64, error) {
	if strings.HasSuffix(text, "i") || strings.TrimRight(text, "kKMGT") != text {
		text += "B"
	}
	return progress.ParseBytes(text)
}

// valueIn returns the value that a flag has in a command line, "" if it is not there.
func valueIn(args []string, name string) (value string) {
	for i, a := range args {
		given, _, isFlag := splitFlag(a)
		if !isFlag || given != name {
			continue
		}
		if _, v, ok := strings.Cut(a, "="); ok {
			value = v
		} else if i+1 < len(args) {
			value = args[i+1]
		}
	}
	return value
}
