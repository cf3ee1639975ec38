package synth

import (
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// mtpFile is the name under which GLM-4.6 and 4.7 publish their MTP layer.
const mtpFile = "mtp.safetensors"

// Plan is a checkpoint decided to the last byte but not written.
type Plan struct {
	Config  *glm.Config // Config.Raw is what config.json will be
	Files   []*safetensors.FilePlan
	Tensors int   // number of tensors, stacked ones counted once
	Bytes   int64 // of tensor data
	Listed  []string

	opts  Options
	parts map[string][]part // of each tensor, in order of its data
}

// part is a run of elements drawn from one random stream.
type part struct {
	key      string // name of the stream: that of the per-expert tensor
	role     glm.Role
	layer    int
	dtype    safetensors.DType
	elements int64
}

// NewPlan decides what a checkpoint with these options holds. It reads and
// writes nothing. Errors are about the options; those of a bad Config match
// glm.ErrInvalid or glm.ErrUnsupported.
func NewPlan(o Options) (*Plan, error) {
	o, err := o.resolve()
	if err != nil {
		return nil, err
	}
	cfg, err := shrinkConfig(o)
	if err != nil {
		return nil, err
	}
	p := &Plan{Config: cfg, opts: o, parts: map[string][]part{}}
	rows := slices.Clone(cfg.Table())
	if o.MTP != MTPCopies {
		rows = slices.DeleteFunc(rows, func(t glm.Tensor) bool { return t.Role == glm.MTPEmbedding || t.Role == glm.MTPHead })
	}
	for i := range rows {
		if rows[i].Role != glm.RouterBias {
			rows[i].DType = o.DType
		}
	}
	stored := rows
	if o.Fused {
		stored = glm.Stack(cfg, rows)
	}
	p.addParts(rows)
	if err := p.layOut(stored); err != nil {
		return nil, err
	}
	return p, nil
}

// addParts files the random streams of every tensor, under its own name and,
// if experts are stacked, under the stacked one.
func (p *Plan) addParts(rows []glm.Tensor) {
	for i := range rows {
		t := &rows[i]
		name := t.Name
		if p.opts.Fused && t.Role.IsExpert() {
			gateUp, down := p.Config.StackedExperts(t.Layer)
			name = gateUp
			if t.Role == glm.ExpertDown {
				name = down
			}
		}
		key := t.Name
		switch t.Role {
		case glm.MTPEmbedding:
			key = p.Config.EmbeddingName()
		case glm.MTPHead:
			key = p.Config.HeadName()
		}
		p.parts[name] = append(p.parts[name], part{key: key, role: t.Role, layer: t.Layer, dtype: t.DType, elements: t.Elements()})
	}
}

// layOut splits the tensors into files.
func (p *Plan) layOut(rows []glm.Tensor) error {
	var shards [][]safetensors.Spec
	var mtp []safetensors.Spec
	size := int64(0)
	for i := range rows {
		spec := safetensors.Spec{Name: rows[i].Name, DType: rows[i].DType, Shape: rows[i].Shape}
		n := spec.Bytes()
		p.Bytes += n
		if rows[i].MTP && p.opts.MTPPlace != PlaceShards {
			mtp = append(mtp, spec)
			continue
		}
		if len(shards) == 0 || size+n > p.opts.ShardBytes {
			shards, size = append(shards, nil), 0
		}
		shards[len(shards)-1] = append(shards[len(shards)-1], spec)
		size += n
	}
	p.Tensors = len(rows)
	for i, specs := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		if err := p.addFile(name, specs); err != nil {
			return err
		}
		p.Listed = append(p.Listed, name)
	}
	if len(mtp) == 0 {
		return nil
	}
	if p.opts.MTPPlace == PlaceListed {
		p.Listed = append(p.Listed, mtpFile)
	}
	return p.addFile(mtpFile, mtp)
}

func (p *Plan) addFile(name string, specs []safetensors.Spec) error {
	// Wide elements first, so that every tensor is aligned.
	slices.SortStableFunc(specs, func(a, b safetensors.Spec) int { return b.DType.Bits() - a.DType.Bits() })
	file, err := safetensors.PlanFile(name, specs, nil)
	if err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	p.Files = append(p.Files, file)
	return nil
}

// Infos returns every tensor as the reader of the written files would.
func (p *Plan) Infos() []safetensors.Info {
	infos := make([]safetensors.Info, 0, p.Tensors)
	for _, f := range p.Files {
		infos = append(infos, f.Tensors()...)
	}
	return infos
}

// weightMap returns the index: the tensors of the listed files, and their bytes.
func (p *Plan) weightMap() (weights map[string]string, total int64) {
	weights = make(map[string]string, p.Tensors)
	for _, f := range p.Files {
		if !slices.Contains(p.Listed, f.Name) {
			continue
		}
		for _, t := range f.Tensors() {
			weights[t.Name] = f.Name
			total += t.Size
		}
	}
	return weights, total
}
