package check

import (
	"fmt"
	"maps"
	"slices"

	"github.com/glmconv/glmconv/glm/origin"
)

// originCodes are the codes of what package origin finds. An MTP layer that is
// declared and not stored is checkMTPDeclared's to say.
var originCodes = map[origin.Kind]string{
	origin.ForeignNames: "foreign-names",
	origin.Adapter:      "adapter-file",
	origin.Pickle:       "not-safetensors",
	origin.LFSPointer:   "lfs-pointer",
	origin.Leftover:     "download-leftover",
	origin.BesideFolder: "file-beside-folder",
	origin.Elsewhere:    "file-elsewhere",
	origin.MTPShape:     "mtp-shape",
	origin.LayerCount:   "layer-count",
	origin.ExpertCount:  "expert-count",
	origin.Vocabulary:   "vocabulary",
	origin.StaleCopies:  "mtp-copy-stale",
	origin.StaleConfig:  "stale-quantization",
	origin.LeftScales:   "scales-left",
	origin.TwoRopeBases: "rope-two-bases",
	origin.OtherModel:   "config-other-model",
	origin.ConfigSize:   "config-size",
	origin.ConfigKey:    "config-key-wrong",
	origin.Indexers:     "config-indexers",
	origin.MTPCount:     "config-mtp-count",
}

// origin returns what is to be said of where the folder comes from.
func (s *subject) origin() []origin.Finding {
	o := &origin.Subject{Dir: s.dir, Config: s.cfg, Keys: s.keys, Files: slices.Sorted(maps.Keys(s.files))}
	if s.ckpt != nil {
		o.Tensors, o.Listed, o.Damaged = s.ckpt.Tensors(), origin.Missing(s.ckpt), origin.Damaged(s.ckpt)
	}
	return origin.Of(o)
}

// checkOrigin notes what the folder is where it is not what config.json says.
func (s *subject) checkOrigin() {
	for _, f := range s.origin() {
		if code, ok := originCodes[f.Kind]; ok {
			if code == "adapter-file" && f.Blocks {
				code = "adapter-alone"
			}
			s.add(code, f.Where, "%s", f.Detail).hint(f.Way)
		}
	}
}

// fillOrigin puts what is to be said of the folder before all other problems.
// It reports whether foreign names, or a config.json of another family, explain what is missing and unexpected.
func (in *Inspection) fillOrigin(s *subject) (explained bool) {
	for _, f := range s.origin() {
		in.Problems = append(in.Problems, f.Error()+" ("+f.Way+")")
		explained = explained || f.Kind == origin.ForeignNames || f.Kind == origin.OtherModel
	}
	if explained {
		return true
	}
	for _, e := range s.model.Misfits {
		if slices.ContainsFunc(s.origin(), func(f origin.Finding) bool { return f.Blocks }) {
			break // said already
		}
		in.Problems = append(in.Problems, fmt.Sprintf("%s: its shape is %v, config.json implies %v", e.Name, e.Source.Shape, e.Shape))
	}
	return false
}
