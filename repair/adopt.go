package repair

import (
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/safetensors"
)

// adopt lists the weight files that no index names where the model lacks what
// they hold: all of a file's tensors, in the shapes that config.json implies, and
// nothing else. Files that hold the same are left to the user.
func (d *decider) adopt() {
	if slices.ContainsFunc(d.found, func(f origin.Finding) bool { return f.Kind == origin.ForeignNames && f.Blocks }) {
		return
	}
	lacks := d.lacking()
	files, times := map[string][]safetensors.Info{}, map[string]int{}
	var names []string
	for _, pr := range d.ckpt.Problems() {
		if pr.Kind != safetensors.ProblemUnlisted || origin.IsAdapter(pr.File) || files[pr.File] != nil {
			continue
		}
		f, err := safetensors.OpenFile(filepath.Join(d.Dir, pr.File))
		if err != nil {
			continue // unlisted says so
		}
		list := f.Tensors()
		f.Close()
		if len(list) == 0 || slices.ContainsFunc(list, func(t safetensors.Info) bool { return !lacks(t) }) {
			continue
		}
		for i := range list {
			list[i].File = pr.File
			times[list[i].Name]++
		}
		files[pr.File] = list
		names = append(names, pr.File)
	}
	slices.Sort(names)
	for _, name := range names {
		if slices.ContainsFunc(files[name], func(t safetensors.Info) bool { return times[t.Name] > 1 }) {
			continue
		}
		for _, t := range files[name] {
			d.adopted[t.Name] = t
		}
		d.listed = append(d.listed, name)
		d.index = true
		d.step("index", name, "listed: it holds %d of the tensors that the model lacks, and no other file has them", len(files[name]))
	}
}

// lacking tells of a tensor whether the model needs it, in its shape, and does
// not have it. Codes and scales may have any.
func (d *decider) lacking() func(t safetensors.Info) bool {
	rows, modules := map[string]*glm.Tensor{}, map[string]bool{}
	table := d.cfg.Table()
	for i := range table {
		rows[table[i].Name] = &table[i]
		modules[table[i].Module] = true
	}
	return func(t safetensors.Info) bool {
		if _, have := d.ckpt.Info(t.Name); have {
			return false
		}
		module, param := glm.ModuleOf(t.Name)
		row, plain := rows[t.Name]
		switch {
		case !modules[module]:
			return false
		case plain && isFloat(t.DType):
			return slices.Equal(row.Shape, t.Shape)
		}
		return param != "bias" && (plain || d.text != nil || d.cfg.QuantizationConfig != nil)
	}
}

// hasAdopted tells whether a tensor, or the codes of its module, is in a file that is
// listed anew.
func (d *decider) hasAdopted(row *glm.Tensor) bool {
	for _, name := range []string{row.Name, row.Module + ".weight_packed", row.Module + ".qweight"} {
		if _, ok := d.adopted[name]; ok && (name == row.Name || row.Param == "weight") {
			return true
		}
	}
	return false
}
