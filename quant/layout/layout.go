package layout

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Layout is one way to put quantized weights on disk. Its file says everything
// about it, and the registry lists it.
type Layout interface {
	Format() Format
	writer
	packager
	rules
	reader
}

// writer is how weights become tensors.
type writer interface {
	// Outputs lists the tensors a weight becomes, in the order of their data.
	Outputs(w Weight) []safetensors.Spec
	// Numeric is the arithmetic that produces the weight's codes and scales.
	Numeric(w Weight, a Arith) numeric.Spec
	// RowAlign is the number of rows that tiles must start at a multiple of;
	// 0 means that the weight must be converted in one piece.
	RowAlign(w Weight, a Arith) int
	// AppendTile appends a tile of the weight, rows from row0 on, to the data
	// of each output, in the order of Outputs. Outputs that do not grow with
	// the rows are written with the first tile.
	AppendTile(w Weight, row0 int, m *numeric.Matrix, out [][]byte) ([][]byte, error)
	// Reference names the tool whose bytes the Compat arithmetic gives, with
	// its verb: "msmodelslim rounds".
	Reference() string
}

// packager is what stands around the tensors.
type packager interface {
	// Config returns the files that tell an engine how the weights are stored:
	// config.json and whatever the layout has beside it.
	Config(d Decisions) (map[string][]byte, error)
	// ConfigFiles are the names of the files beside config.json.
	ConfigFiles() []string
	// IndexName is the name of the index of a sharded result.
	IndexName() string
	// ShardName is the name of shard i of n, from 1; "" where a result keeps
	// the source's shards and their names.
	ShardName(i, n int) string
	// MTPCopies says for whom the MTP layer holds its own copies of the
	// embedding and the head; "" where engines share those of the model.
	MTPCopies(s Scheme, rest RestMode) string
}

// rules are what a layout decides of a model's tensors.
type rules interface {
	// schemes lists the schemes that exist in the layout.
	schemes() []Scheme
	// possible refuses what no part of the model could be served with.
	possible(cfg *glm.Config, o *Options) error
	// choose says what a linear becomes, before dimensions count; a zero choice
	// comes with its reason.
	choose(cfg *glm.Config, t *glm.Tensor, o *Options) (choice, string)
	// lift says what a unit of weights is lifted to; not ok where the layout has no
	// such format beside the scheme.
	lift(to Lift, o *Options) (c choice, ok bool)
	// misfit returns the dimension rule that a quantized weight breaks, or "".
	misfit(w *Weight) string
	// fallback is what a weight becomes that breaks a dimension rule.
	fallback(c choice) choice
	// mtpByDefault reports whether --mtp auto quantizes the MTP layer.
	mtpByDefault(s Scheme) bool
	// settle completes decisions after all units agree.
	settle(out []Decision)
	// label names the scheme of a quantized weight in the layout's own words.
	label(w *Weight) string
}

// Reader is a format that is read: a Layout, or one of other tools.
type Reader interface {
	Format() Format
	reader
}

// reader is how tensors become weights again.
type reader interface {
	// weightParams are the names, after the module's, of the tensors that hold
	// a weight's codes or values.
	weightParams() []string
	// foreign lists tensors beside a weight that stand for relatives of the
	// layout which nothing here reads.
	foreign() []foreignParam
	// find finds a module's weight if its tensors are those of the layout. ok
	// is false if they are not; the error says why such tensors are no weight.
	find(t *tensors, h Hints) (s Stored, ok bool, err error)
	// read reads rows lo..hi, which are aligned and in range.
	read(b *Buffer, r TensorReader, s *Stored, lo, hi int) (*numeric.Matrix, error)
}

// choice is what a weight and its input are quantized to.
type choice struct {
	quant format.Weight
	act   format.Activation
}

// common answers for a layout that has nothing special: the source's shards,
// an index of the usual name, no copies, no rules about dimensions, 8-bit
// schemes for the MTP layer.
type common struct{}

func (common) ConfigFiles() []string                { return nil }
func (common) IndexName() string                    { return "model.safetensors.index.json" }
func (common) ShardName(int, int) string            { return "" }
func (common) MTPCopies(Scheme, RestMode) string    { return "" }
func (common) possible(*glm.Config, *Options) error { return nil }
func (common) misfit(*Weight) string                { return "" }
func (common) fallback(choice) choice               { return choice{} }
func (common) mtpByDefault(s Scheme) bool {
	return s == FP8 || s == FP8Block || s == W8A8 || s == MXFP8 || s == MXFP8A16
}
func (common) settle([]Decision)              {}
func (common) weightParams() []string         { return []string{"weight"} }
func (common) foreign() []foreignParam        { return nil }
func (common) RowAlign(w Weight, _ Arith) int { return rowAlign(w.Quant) }

// Decisions is all that a layout's configuration depends on.
type Decisions struct {
	Config    *glm.Config
	Scheme    Scheme
	GroupSize int
	Rest      RestMode
	Weights   []*Weight       // every tensor of the result, those that are not quantized too
	Rotated   bool            // the source was rotated (package rotation)
	Lifted    map[string]Lift // units that have something richer than the scheme's
	Caches    *Caches         // in int8; nil: none
}

// rowAlign is the number of rows that share bytes or scales.
func rowAlign(q format.Weight) int {
	switch {
	case q.Strategy == format.Block:
		return q.BlockRows
	case q.Packing == format.RowPairs:
		return 2
	}
	return 1
}

// spec builds an output of a module.
func spec(module, param string, d safetensors.DType, shape ...int64) safetensors.Spec {
	return safetensors.Spec{Name: module + "." + param, DType: d, Shape: shape}
}

// floatOutput is the single output of a tensor that is not quantized.
func floatOutput(w *Weight) []safetensors.Spec {
	return []safetensors.Spec{{Name: w.Tensor.Name, DType: w.DType, Shape: w.Tensor.Shape}}
}

// numericOf fills in what a record says about codes, blocks and scales.
func numericOf(q format.Weight, rule numeric.ScaleRule, a Arith) numeric.Spec {
	switch {
	case q.Strategy == format.TensorGroup:
		rule = numeric.NVFP4
	case q.Scale == format.E8M0:
		rule = numeric.MX
	}
	s := numeric.Spec{Code: codeOf(q), Rule: rule, Arith: a, BlockRows: 1, FP8Scales: q.Used == format.E4M3}
	switch q.Strategy {
	case format.Block:
		s.BlockRows, s.BlockCols = q.BlockRows, q.BlockCols
	case format.Group, format.TensorGroup:
		s.BlockCols = q.Group
	}
	return s
}

// codeOf is the number format of the codes in memory.
func codeOf(q format.Weight) numeric.Code {
	switch {
	case q.Type == format.Float && q.Bits == 4:
		return numeric.E2M1
	case q.Type == format.Float:
		return numeric.E4M3
	case q.Bits > 4:
		return numeric.Int8
	}
	return numeric.Int4
}

// appendCodes is append, for nothing where the codes were computed in dst
// (numeric.Scratch.Into).
func appendCodes(dst, codes []byte) []byte {
	if n := len(codes); len(dst) == 0 && cap(dst) >= n && n > 0 && &dst[:n][0] == &codes[0] {
		return dst[:n]
	}
	return append(dst, codes...)
}
