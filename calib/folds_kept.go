package calib

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
)

// foldsVersion names how folds are searched; another one finds others.
const foldsVersion = "glmconv folds 1"

// keptFolds are the folds of finished layers in a folder. They only save time: what
// cannot be read, is of another search or damaged is searched again, and what cannot
// be written is not kept.
type keptFolds struct {
	fs  fsx.FS
	dir string // "": nothing is kept
	id  string // of all that the folds depend on
}

// foldsFile is what a layer's file holds.
type foldsFile struct {
	ID    string    `json:"id"`
	Hash  string    `json:"hash"` // of Folds
	Folds *fold.Set `json:"folds"`
}

// newKeptFolds looks in a folder of its own for each plan and text. Imported
// statistics have no text that would tell two of them apart, and no samples to
// search with.
func newKeptFolds(plan *quant.Plan, st *Statistics, o FoldOptions) *keptFolds {
	if o.Dir == "" || st.Tokens() == 0 {
		return &keptFolds{}
	}
	id := hashText(fmt.Sprintf("%s\n%s\n%s\n%s", foldsVersion, Schema, plan.Fingerprint, st.ID()))
	return &keptFolds{fs: fsx.Or(o.FS), dir: filepath.Join(o.Dir, "folds-"+id[:12]), id: id}
}

func (k *keptFolds) name(sites []fold.Site) string {
	return filepath.Join(k.dir, fmt.Sprintf("layer-%d.json", sites[0].Layer))
}

// read adds the folds of a layer that are kept, and reports whether there are any.
func (k *keptFolds) read(to *fold.Set, sites []fold.Site) bool {
	if k.dir == "" {
		return false
	}
	raw, err := fsx.ReadRegular(k.name(sites), fsx.MaxText)
	if err != nil {
		return false
	}
	var f foldsFile
	if json.Unmarshal(raw, &f) != nil || f.Folds == nil || f.ID != k.id || f.Hash != f.Folds.Hash() {
		return false
	}
	for i := range sites {
		if e := f.Folds.Get(sites[i].Name); e != nil && len(e) != sites[i].Channels {
			return false
		}
	}
	for i := range sites {
		to.Put(&sites[i], f.Folds.Get(sites[i].Name))
	}
	return true
}

// write keeps the folds of a layer.
func (k *keptFolds) write(found *fold.Set, sites []fold.Site) {
	if k.dir == "" {
		return
	}
	raw, err := json.Marshal(foldsFile{k.id, found.Hash(), found})
	if err == nil && k.fs.MkdirAll(k.dir) == nil {
		_ = fsx.WriteFile(k.fs, k.name(sites), raw)
	}
}
