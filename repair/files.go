package repair

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify/check"
)

// files says of what was found what stays as it is, and drops adapters.
func (d *decider) files() {
	for _, f := range d.found {
		switch f.Kind {
		case origin.ForeignNames, origin.Pickle, origin.LayerCount, origin.ExpertCount, origin.MTPShape, origin.TwoRopeBases, origin.Vocabulary:
			d.stays("%s; %s", f.Error(), f.Hint())
		case origin.LFSPointer:
			if !strings.HasSuffix(f.Where, ".safetensors") || d.still > 0 || d.from == nil {
				d.stays("%s; %s", f.Error(), f.Hint())
			}
		case origin.Adapter:
			if f.Blocks {
				d.stays("%s; %s", f.Error(), f.Hint())
				continue
			}
			for _, n := range d.names() {
				if origin.IsAdapter(n) {
					d.drop(n, "a LoRA adapter, which loaders would apply once more; if it was never merged, undo this and merge it")
				}
			}
		}
	}
}

func (d *decider) names() (out []string) {
	entries, _ := os.ReadDir(d.Dir) // origin.Look could list it
	for _, e := range entries {
		if !e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

// unlisted drops weight files that no index names and all of whose tensors are
// stored elsewhere, and lists those that have what is missing.
func (d *decider) unlisted() {
	for _, pr := range d.ckpt.Problems() {
		if pr.Kind != safetensors.ProblemUnlisted || origin.IsAdapter(pr.File) || slices.Contains(d.listed, pr.File) {
			continue
		}
		if slices.ContainsFunc(d.ckpt.Tensors(), func(t safetensors.Info) bool { return t.File == pr.File }) {
			continue // mtp.safetensors, read already
		}
		f, err := safetensors.OpenFile(filepath.Join(d.Dir, pr.File))
		if err != nil {
			d.stays("%s: no index names it, and it cannot be read: %v", pr.File, err)
			continue
		}
		d.judgeUnlisted(pr.File, f.Tensors())
		f.Close()
	}
}

func (d *decider) judgeUnlisted(file string, tensors []safetensors.Info) {
	all := true
	for _, t := range tensors {
		_, have := d.ckpt.Info(t.Name)
		all = all && (have || slices.ContainsFunc(d.extra, func(s source) bool { return s.as == t.Name }))
	}
	if all {
		d.drop(file, "no index names it, and all of its tensors are in other files")
		return
	}
	d.stays("%s: no index names it, and it has tensors that no other file has; list it in the index if it belongs to this model", file)
}

// unreadable drops shards that cannot be read once all of their tensors have
// come from elsewhere.
func (d *decider) unreadable() {
	for _, pr := range d.ckpt.Problems() {
		if pr.Kind != safetensors.ProblemError || isDuplicate(pr) || !strings.HasSuffix(pr.File, ".safetensors") || pr.Tensor != "" {
			continue
		}
		if _, err := os.Lstat(filepath.Join(d.Dir, pr.File)); err != nil || slices.ContainsFunc(d.ckpt.Tensors(), func(t safetensors.Info) bool { return t.File == pr.File }) {
			continue
		}
		if d.still > 0 || d.from == nil {
			if d.lost[pr.File] == 0 {
				d.stays("%s: %v", pr.File, pr.Err)
			}
			continue
		}
		d.drop(pr.File, "it cannot be read, and its tensors come from the base model")
	}
}

// leftovers drops what downloads left, unless a download is unfinished.
func (d *decider) leftovers(ctx context.Context) error {
	var holes []string
	looked := false
	for _, f := range d.found {
		if f.Kind != origin.Leftover {
			continue
		}
		of := strings.TrimSuffix(f.Where, filepath.Ext(f.Where))
		shard := slices.ContainsFunc(d.ckpt.Tensors(), func(t safetensors.Info) bool { return t.File == of })
		if shard && !looked { // it was being written: look for holes
			looked = true
			var err error
			if holes, err = d.holes(ctx); err != nil {
				return err
			}
		}
		switch {
		case shard && slices.Contains(holes, of):
			d.stays("%s: parts of %s are zero: the download was not finished; fetch it again", f.Where, of)
		case d.still > 0:
			d.stays("%s; %s", f.Error(), f.Hint())
		default:
			d.drop(f.Where, "%s", f.Detail)
		}
	}
	return nil
}

// holes returns the files in which check finds zeros where weights should be.
func (d *decider) holes(ctx context.Context) ([]string, error) {
	r, err := check.Run(ctx, d.Dir, check.Options{Weights: true, NoHashes: true})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range r.Found { // Findings are summed up
		if t, ok := d.ckpt.Info(f.Where); ok && (f.Code == "weight-zero" || f.Code == "zero-region") {
			out = append(out, t.File)
		}
	}
	return out, nil
}

// needIndex decides whether the index is written anew for its own sake. While
// a file stays unreadable the index is all that is known of it.
func (d *decider) needIndex() {
	if len(d.lost) > 0 {
		return
	}
	for _, pr := range d.ckpt.Problems() {
		switch pr.Kind {
		case safetensors.ProblemUnindexed, safetensors.ProblemTotalSize, safetensors.ProblemNoIndex:
			d.index = true
		case safetensors.ProblemUnlisted:
			d.index = d.index || pr.File == safetensors.MTPName && !slices.Contains(d.remove, pr.File)
		case safetensors.ProblemError:
			d.index = d.index || strings.HasSuffix(pr.File, ".safetensors") || strings.HasSuffix(pr.File, ".json")
		}
	}
	if d.index && len(d.listed) == 0 {
		d.step("index", d.indexAs, "written anew from what the files hold")
	}
}
