package mtp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/jsonobj"
	"github.com/glmconv/glmconv/safetensors"
)

// DefaultFile is the name of the new file, the one that the guide's script uses.
const DefaultFile = "mtp-others.safetensors"

// Options say how to remap.
type Options struct {
	Layer int    // index of the MTP layer; 0: the one that config.json implies (it comes after the decoder layers)
	Out   string // "": in place; else a new directory
	File  string // name of the new file; "": DefaultFile
	// FS is what Apply writes through; nil: the operating system's files.
	FS safetensors.FS
	// Progress receives the bytes written so far, the bytes to write and the
	// file at work. It may be nil; one goroutine calls it.
	Progress func(done, total int64, detail string)
}

// Copy is one tensor that the layer lacks and where it is taken from.
type Copy struct {
	Name string           // name under the MTP layer
	From safetensors.Info // the model's own tensor
}

// Remap is a decided remapping. It holds nothing open.
type Remap struct {
	Dir, Out, File string
	Family         glm.Family
	Layer          int
	Copies         []Copy   // what the new file will hold; empty: no new file
	Listed         []string // tensors of an unlisted mtp.safetensors that the index will name
	Done           bool     // nothing to do
	Bytes          int64    // size of the copies

	indexName   string
	index       []byte // text of the index as found, nil if there is none
	description []byte // text of the description as found, nil if there is none
	tensors     []safetensors.Info

	opts     Options
	fs       fsx.FS
	progress func(done, total int64, detail string)
}

// NewRemap reads config, index and headers of the checkpoint in dir and
// decides what to do. Errors are *Error, or those of packages glm and
// safetensors for a checkpoint that cannot be read.
func NewRemap(dir string, opts Options) (*Remap, error) {
	r := &Remap{Dir: dir, Out: opts.Out, File: opts.File, opts: opts, fs: fsx.Or(opts.FS), progress: opts.Progress}
	if r.File == "" {
		r.File = DefaultFile
	}
	if r.File != filepath.Base(r.File) || !strings.HasSuffix(r.File, ".safetensors") || strings.HasPrefix(r.File, ".") {
		return nil, fail(ErrConflict, r.File, "", "the new file needs a plain name that ends in .safetensors")
	}
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	r.Family = cfg.Family
	ckpt, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()
	r.tensors = ckpt.Tensors()
	if err := r.readTexts(ckpt.IndexName()); err != nil {
		return nil, err
	}
	if err := r.decide(cfg, opts.Layer); err != nil {
		return nil, err
	}
	if len(r.Copies) > 0 {
		if err := Rotated(cfg, ckpt, r.description); err != nil {
			return nil, err
		}
	}
	r.listUnlisted(ckpt)
	return r, nil
}

// listUnlisted notes the tensors that the index should name and does not: an
// mtp.safetensors beside the shards, or a tensor of a listed shard.
func (r *Remap) listUnlisted(ckpt *safetensors.Checkpoint) {
	beside := r.index == nil && len(ckpt.Files()) > 1 && r.description == nil // model.safetensors and mtp.safetensors
	single := map[string]bool{}
	for _, p := range ckpt.Problems() {
		beside = beside || p.Kind == safetensors.ProblemUnlisted && p.File == safetensors.MTPName
		if p.Kind == safetensors.ProblemUnindexed {
			single[p.Tensor] = true
		}
	}
	for _, t := range r.tensors {
		if beside && t.File == safetensors.MTPName || single[t.Name] {
			r.Listed = append(r.Listed, t.Name)
		}
	}
	r.Done = r.Done && len(r.Listed) == 0
}

// readTexts reads the index and the description, where they exist.
func (r *Remap) readTexts(index string) (err error) {
	read := func(name string) ([]byte, error) {
		raw, err := fsx.ReadIn(r.Dir, name, fsx.MaxText)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return raw, err
	}
	if r.description, err = read(descriptionName); err != nil {
		return err
	}
	switch {
	case index != "":
		r.indexName = index
	case r.description != nil:
		r.indexName = safetensors.AscendIndexName
	default:
		r.indexName = safetensors.IndexName
	}
	r.index, err = read(r.indexName)
	return err
}

func (r *Remap) has(name string) bool { _, ok := r.find(name); return ok }

func (r *Remap) find(name string) (safetensors.Info, bool) {
	i := slices.IndexFunc(r.tensors, func(t safetensors.Info) bool { return t.Name == name })
	if i < 0 {
		return safetensors.Info{}, false
	}
	return r.tensors[i], true
}

const hintRotated = "convert the unrotated source: an Ascend result of glmconv holds both copies"

// Rotated says why a copy of the model's own head cannot serve the MTP layer;
// nil if it can. Where weights were multiplied by a rotation, the model's head
// carries the gains of the final norm and that of the MTP layer those of its
// own (docs/facts/ascend.md 4.1). The description is that of an Ascend folder,
// nil for others. The error is an *Error that matches ErrRotated, or that of a
// read.
func Rotated(cfg *glm.Config, ckpt *safetensors.Checkpoint, description []byte) error {
	if _, ok := ckpt.Info("rot.weight"); ok {
		return fail(ErrRotated, "rot.weight", hintRotated, "the checkpoint is rotated: copies of the model's embedding and head would be wrong for its MTP layer")
	}
	if description != nil {
		var d struct {
			Rot      bool `json:"is_rot_used"`
			Optional struct {
				QuaRot json.RawMessage `json:"quarot"`
			} `json:"optional"`
		}
		if _, err := jsonobj.Parse(description); err != nil {
			return unreadable(err)
		}
		if err := json.Unmarshal(description, &d); err != nil {
			return unreadable(err)
		}
		switch {
		case d.Rot:
			return fail(ErrRotated, descriptionName, hintRotated, "is_rot_used is true: copies of the model's embedding and head would be wrong for the MTP layer")
		case d.Optional.QuaRot != nil:
			return fail(ErrRotated, descriptionName, hintRotated, "optional.quarot: the checkpoint is rotated, and the gains of its norms are fused into its weights: the MTP layer's head needs those of shared_head.norm, a copy of lm_head has those of model.norm")
		}
	}
	return fused(cfg.FinalNormName(), ckpt)
}

// fused refuses checkpoints whose final norm has the gain 1 everywhere: it was
// fused into the head, which a rotation needs, and a copy of the head for the
// MTP layer would carry the gains of the wrong norm.
func fused(norm string, ckpt *safetensors.Checkpoint) error {
	info, ok := ckpt.Info(norm)
	if !ok || info.Size == 0 || info.Size > 1<<20 {
		return nil
	}
	raw := make([]byte, info.Size)
	if err := ckpt.ReadAt(info, 0, raw); err != nil {
		return err
	}
	one := map[safetensors.DType][]byte{safetensors.BF16: {0x80, 0x3f}, safetensors.F16: {0, 0x3c}, safetensors.F32: {0, 0, 0x80, 0x3f}}[info.DType]
	if one == nil || !bytes.Equal(raw, bytes.Repeat(one, len(raw)/len(one))) {
		return nil
	}
	return fail(ErrRotated, norm, hintRotated, "is 1 everywhere: its gains are fused into lm_head, as in rotated checkpoints, and a copy of lm_head for the MTP layer would have the gains of the wrong norm")
}

// decide finds the layer and what it lacks.
func (r *Remap) decide(cfg *glm.Config, layer int) error {
	if cfg.NestedText() {
		return fail(ErrNoMTP, r.Dir, "", "%s has no MTP layer", cfg.Family)
	}
	// An undeclared layer counts if it is there: GLM-4.x configs may leave the
	// key out.
	c := *cfg
	c.MTPLayers = max(c.MTPLayers, 1)
	r.Layer = layer
	if layer == 0 {
		r.Layer = c.Layers
	}
	if r.Layer < c.Layers || r.Layer >= c.Layers+c.MTPLayers {
		return fail(ErrLayer, fmt.Sprintf("layer %d", layer), "the layer need not be given: config.json implies it", "the MTP layer of this checkpoint is %d (num_hidden_layers)", c.Layers)
	}
	if proj := projName(&c, r.Layer); !r.has(proj) {
		if codes := r.codesOf(proj); codes != "" {
			return fail(ErrQuantized, codes, "take an MTP layer whose eh_proj is full precision", "eh_proj is stored in codes: engines build it in full precision and cannot load this MTP layer")
		}
		return fail(ErrNoMTP, proj, "fetch the file that holds the MTP layer (mtp.safetensors in some releases)",
			"the files hold no MTP layer %d, there is nothing to complete", r.Layer)
	}
	embed, head := c.MTPNames(r.Layer)
	for _, p := range []struct{ want, from string }{{embed, c.EmbeddingName()}, {head, c.HeadName()}} {
		want := c.Lookup(p.want)
		if r.codesOf(p.want) != "" {
			continue // a quantized copy, as Z.ai's FP8 releases have of the head: engines bind the model's own
		}
		if have, ok := r.find(p.want); ok {
			if err := fits(have, want); err != nil {
				return stale(err, have, want)
			}
			continue
		}
		from, err := r.source(&c, p.from)
		if err != nil {
			return err
		}
		if err := fits(from, want); err != nil {
			return err
		}
		r.Copies = append(r.Copies, Copy{p.want, from})
		r.Bytes += from.Size
	}
	r.Done = len(r.Copies) == 0
	return nil
}

// codesOf returns a tensor beside a weight by which it is quantized, "" if it
// is not: a scale, or codes under a name of their own.
func (r *Remap) codesOf(weight string) string {
	module, _ := glm.ModuleOf(weight)
	for i := range r.tensors {
		if m, param := glm.ModuleOf(r.tensors[i].Name); m == module && param != "weight" && param != "bias" {
			return r.tensors[i].Name
		}
	}
	return ""
}

func projName(c *glm.Config, layer int) string {
	for _, t := range c.Table() {
		if t.Role == glm.MTPProj && t.Layer == layer {
			return t.Name
		}
	}
	return ""
}

// source finds the tensor to copy. With tied embeddings the head is the
// embedding.
func (r *Remap) source(c *glm.Config, name string) (safetensors.Info, error) {
	t, ok := r.find(name)
	if !ok && c.TieEmbeddings {
		name = c.EmbeddingName()
		t, ok = r.find(name)
	}
	if codes := r.codesOf(name); codes != "" {
		return t, fail(ErrQuantized, codes, hintQuantized, "%s is quantised; the copy must be full precision", strings.TrimSuffix(name, ".weight"))
	}
	if !ok {
		return t, fail(ErrMissing, name, "fetch the checkpoint's missing files", "the tensor to copy is not in the checkpoint")
	}
	return t, nil
}

const hintQuantized = "quantise from the BF16 source and leave embedding and head alone (glmconv does)"

// stale is the error of a copy of another vocabulary than config.json's.
func stale(err error, have safetensors.Info, want *glm.Tensor) error {
	var e *Error
	if len(have.Shape) == 2 && have.Shape[1] == want.Shape[1] && errors.As(err, &e) && e.Kind == ErrShape {
		e.Kind, e.Advice = ErrStale, "take the model's own again"
	}
	return err
}

// fits compares a stored tensor with its table row.
func fits(have safetensors.Info, want *glm.Tensor) error {
	switch have.DType {
	case safetensors.BF16, safetensors.F16, safetensors.F32:
	default:
		return fail(ErrQuantized, have.Name, hintQuantized, "the tensor is %s; embedding and head copies must be full precision", have.DType)
	}
	if !slices.Equal(have.Shape, want.Shape) {
		return fail(ErrShape, have.File+": "+have.Name, "config.json belongs to another checkpoint, or the file does", "the shape is %v, config.json implies %v", have.Shape, want.Shape)
	}
	return nil
}
