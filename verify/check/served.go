package check

import (
	"context"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/safetensors"
)

// Served is a checkpoint as a server sees it: what it is and how many bytes of
// which kind a rank has to hold.
type Served struct {
	Report  *Report
	Config  *glm.Config
	Subject engine.Subject
	Stored  []Stored
}

// Stored is the bytes of tensors of one kind: weights with their scales.
type Stored struct {
	Role  glm.Role // Unknown for what is in no table
	MTP   bool     // of the MTP layer
	Bytes int64
}

// Serve examines a checkpoint's headers, without hashes and values, and says
// what engines would have to load. The error is that of Run, or a
// *glm.ConfigError; a damaged checkpoint is none: Report.OK is false.
func Serve(ctx context.Context, dir string) (*Served, error) {
	s, err := inspectAll(ctx, dir, Options{NoHashes: true})
	if s != nil {
		defer s.close()
	}
	if err != nil {
		return nil, err
	}
	if s.cfg == nil {
		if _, err := glm.LoadConfig(dir); err != nil {
			return nil, err
		}
	}
	out := &Served{Report: s.report, Config: s.cfg}
	if s.model == nil {
		return out, nil
	}
	out.Subject = s.judged()
	out.Stored = s.stored()
	return out, nil
}

// stored adds the tensors up by role.
func (s *subject) stored() []Stored {
	type kind struct {
		role glm.Role
		mtp  bool
	}
	modules := map[string]kind{}
	for _, t := range s.rows {
		if k, known := modules[t.Module]; !known || k.role == glm.Unknown {
			modules[t.Module] = kind{t.Role, t.MTP}
		}
	}
	for l := range s.cfg.Layers + s.cfg.MTPLayers {
		up, down := s.cfg.StackedExperts(l)
		modules[up], modules[down] = kind{glm.ExpertUp, l >= s.cfg.Layers}, kind{glm.ExpertDown, l >= s.cfg.Layers}
	}
	sums := map[kind]int64{}
	for _, t := range s.tensors {
		sums[kindOf(t, modules)] += t.Size
	}
	var out []Stored
	for k, n := range sums {
		out = append(out, Stored{k.role, k.mtp, n})
	}
	return out
}

// kindOf finds the module that a tensor belongs to: its name, or its name
// without the last part and without what packings append.
func kindOf[K any](t safetensors.Info, modules map[string]K) K {
	for name := t.Name; name != ""; {
		if k, ok := modules[name]; ok {
			return k
		}
		i := strings.LastIndexByte(name, '.')
		if i < 0 {
			break
		}
		name = name[:i]
	}
	var none K
	return none
}
