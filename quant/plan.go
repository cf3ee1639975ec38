package quant

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/quant/rotation"
	"github.com/glmconv/glmconv/safetensors"
)

// Scheme, Format and their values are those of package layout.
type (
	Scheme = layout.Scheme
	Format = layout.Format
)

// The schemes, re-exported for callers of NewPlan.
const (
	FP8      = layout.FP8
	FP8Block = layout.FP8Block
	W8A8     = layout.W8A8
	W4A8     = layout.W4A8
	W4A16    = layout.W4A16
	W4A8FP8  = layout.W4A8FP8
	BF16     = layout.BF16
	NVFP4    = layout.NVFP4
	NVFP4A16 = layout.NVFP4A16
	MXFP4    = layout.MXFP4
	MXFP4A16 = layout.MXFP4A16
	MXFP8    = layout.MXFP8
	MXFP8A16 = layout.MXFP8A16
	Int4Int8 = layout.Int4Int8
)

// Options are the choices beside scheme and format. The zero value is the
// command's default.
type Options struct {
	Arith     numeric.Arith
	GroupSize int            // int4 group: 32, 64, 128 (0: 128), or layout.PerChannel
	MTP       layout.MTPMode // "" is auto
	Ignore    []string       // modules to leave alone: names, or "re:" and a pattern
	Target    []string       // if given, the only modules to quantise
	ShardSize int64          // bytes of an output shard where the layout cuts anew (0: 4 GiB)
	Fold      FoldMode       // "" is off
	Folds     *fold.Set      // of FoldSearch: what was found
	// Rest says what becomes of attention, dense and shared experts where the
	// scheme leaves it open.
	Rest       layout.RestMode
	ZeroPoints bool // asymmetric codes
	// Inputs are the largest magnitudes of inputs, for schemes whose Calibrated
	// is true.
	Inputs *Inputs
	// Requantize converts a source that has the scheme already.
	Requantize bool
	// AllowLossy takes sources with less than 8 bits a weight.
	AllowLossy bool
	// Ranges are those of inputs by module, over text that stands for what is
	// served: attention of an Ascend result is quantized statically where they are
	// known (docs/facts/ascend.md 2.4).
	Ranges map[string]Range
	// Rotation says that the source is rotated by these matrices (OpenRotated).
	Rotation *rotation.Set
	// KV says how engines are to keep their caches; Caches in which layers (nil: as
	// published for the family). CacheRanges are those of keys and values by module
	// and channel, for grouped-query attention.
	KV          KVMode
	Caches      *layout.Caches
	CacheRanges map[string][]Range
	Notes       []string // taken over into the plan's
	// Lifted are units of weights (layout.Unit) that take something richer than the
	// scheme's.
	Lifted map[string]layout.Lift
}

// Action is what happens to one tensor.
type Action string

// The actions.
const (
	Quantize Action = "quantize" // codes and scales
	Copy     Action = "copy"     // the source's bytes
	Widen    Action = "widen"    // the source's values in F32
	Decode   Action = "decode"   // the source's values in BF16
	Alias    Action = "alias"    // a second copy under the MTP layer's name
	Make     Action = "make"     // of nothing in the source
	Drop     Action = "drop"     // left out, by a rule that Reason names
)

// Item is the fate of one source tensor (or of one expert's part of a stacked
// one), or of a tensor that is made from another.
type Item struct {
	Weight layout.Weight
	Action Action
	Scheme string // "FP8", "W8A8_DYNAMIC", "BF16" …
	Reason string
	Source safetensors.Info // tensor on disk; of a quantized source its codes
	Stored *layout.Stored   // how a quantized source has the weight, else nil
	Offset int64            // where the item's data starts inside it
	Bytes  int64            // bytes it takes there

	// What is written of it (Plan.Outputs has names and shapes).
	Outputs int   // tensors
	Written int64 // their bytes
	First   int64 // bytes of the first, and its place in the file
	At      int64
	File    int // in Plan.Files

	Data []byte // of a tensor that is made
}

// Name is the tensor's name in the family's table.
func (it *Item) Name() string { return it.Weight.Tensor.Name }

// File is one output shard.
type File struct {
	Plan  *safetensors.FilePlan
	Items []int // indices into Plan.Items, in writing order
	// Tail lists the outputs that are written last: those whose size is not a
	// multiple of eight, by falling element size.
	Tail []OutputRef

	index safetensors.IndexSize
}

// OutputRef names an output of a plan: Plan.Outputs(&Plan.Items[Item])[Output].
type OutputRef struct{ Item, Output int }

// Sidecar is a file of the source that is copied as it is.
type Sidecar struct {
	Name string
	Size int64
}

// Plan is every decision of a conversion. It is pure data: making it reads
// config.json and headers, carrying it out decides nothing.
type Plan struct {
	Scheme      Scheme
	Format      Format
	Options     Options
	Config      *glm.Config
	Model       *glm.Model
	Items       []Item
	Files       []File
	Configs     map[string]*Text // config.json and the layout's own files
	IndexName   string
	Sidecars    []Sidecar
	Notes       []string
	Fingerprint string       // SHA-256 of everything that decides a byte of the result
	SourceBytes int64        // of the source's tensors
	ResultBytes int64        // of all files of the result
	Calibration *Calibration // the text of statistics that were used; nil: none
	Folds       *fold.Set    // powers of two that move between tensors; nil: none
	Mixed       *Mixed       // how Options.Lifted was chosen; nil: not by a budget

	lay       layout.Layout
	dir       string
	scalings  map[string]*fold.Scaling  // by the name of a tensor: what the folds make of it
	stored    map[string]*layout.Stored // weights of a quantized source, by tensor
	codes     Codes                     // nil: weights are rounded
	caches    *layout.Caches            // in int8; nil: none
	origin    string                    // where dir is a view of another folder: that one
	indexSize int64
	asked     engine.Subject // the result as engines are asked about it
}

// Dir returns the source's directory; of a rotated source the one that it was
// made of.
func (p *Plan) Dir() string {
	if p.origin != "" {
		return p.origin
	}
	return p.dir
}

// NewPlan decides what becomes of every tensor of a checkpoint. An empty
// format means the scheme's default for the family. It reads config.json,
// headers and the names of the other files; no weights.
func NewPlan(src *safetensors.Checkpoint, scheme Scheme, format Format, o Options) (*Plan, error) {
	cfg, err := glm.LoadConfig(src.Dir())
	if err != nil {
		return nil, err
	}
	if err := cfg.StaleQuantization(src.Tensors()); err != nil {
		return nil, err
	}
	view, err := viewSource(cfg, src)
	if err != nil {
		return nil, err
	}
	if len(view.Stored) == 0 && cfg.Quantization != "" { // refuse would come too late
		found, err := originOf(cfg, src)
		if err != nil {
			return nil, err
		}
		if err := origin.Refuse(found); err != nil {
			return nil, err
		}
	}
	p, err := newPlan(cfg, view, scheme, format, o)
	if err != nil {
		return nil, err
	}
	if err := p.refuse(src); err != nil {
		return nil, err
	}
	p.dir = src.Dir()
	for _, pr := range src.Problems() {
		where := ""
		if pr.File != "" {
			where = pr.File + ": "
		}
		p.Notes = append(p.Notes, "source: "+where+pr.Detail)
	}
	if p.Sidecars, err = sidecars(src.Dir(), p); err != nil {
		return nil, err
	}
	for _, s := range p.Sidecars {
		p.ResultBytes += s.Size
	}
	if err := p.fold(src); err != nil {
		return nil, err
	}
	p.Fingerprint = p.fingerprint(src.Files())
	return p, nil
}

// newPlan is the pure part of NewPlan.
func newPlan(cfg *glm.Config, view *layout.View, scheme Scheme, format Format, o Options) (*Plan, error) {
	if format == "" {
		format = layout.DefaultFormat(scheme, cfg)
	}
	supported := layout.Supported
	if o.Rotation != nil {
		supported = layout.SupportedRotated
	}
	if err := supported(scheme, format); err != nil {
		return nil, err
	}
	if len(view.Stored) == 0 {
		if err := cfg.RequireUnquantized(); err != nil {
			return nil, err
		}
	}
	lay, err := layout.For(format)
	if err != nil {
		return nil, err
	}
	model, dropped, err := describe(cfg, view.Tensors, o)
	if err != nil {
		return nil, err
	}
	o.setDefaults(scheme)
	p := &Plan{Scheme: scheme, Format: format, Options: o, Config: cfg, Model: model, lay: lay, IndexName: lay.IndexName(), stored: view.Stored}
	p.Notes = append(append(p.Notes, o.Notes...), model.Notes...)
	if err := p.checkComplete(len(dropped)); err != nil {
		return nil, err
	}
	if err := p.decide(); err != nil {
		return nil, err
	}
	p.dropItems(dropped)
	p.dropUnread(view.Unread)
	if err := p.refuseSource(); err != nil {
		return nil, err
	}
	for i := range p.Items {
		if p.Items[i].Action != Alias { // counted where it stands
			p.SourceBytes += p.Items[i].Bytes
		}
	}
	if err := p.place(); err != nil {
		return nil, err
	}
	if err := p.describeResult(); err != nil {
		return nil, err
	}
	if hint := p.wayOut(); hint != "" {
		p.Notes = append(p.Notes, hint)
	}
	return p, nil
}

func (o *Options) setDefaults(scheme Scheme) {
	if o.GroupSize == 0 && !scheme.Micro() {
		o.GroupSize = 128
	}
	if o.ShardSize <= 0 {
		o.ShardSize = 4 << 30
	}
	if o.MTP == "" {
		o.MTP = layout.MTPAuto
	}
}
