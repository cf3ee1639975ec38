package glm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

// Describe matches the tensors of a checkpoint against the family's table, by
// exact name. Infos are those of all shards, in any order.
//
// Accepted dtypes are BF16, F16 and F32; stacked v5 experts are accepted in
// place of per-expert tensors. An MTP layer is recognised by its tensors even
// if the config does not declare it. Missing and unexpected tensors are no
// error but listed in the Model.
//
// The error is a *TensorError: ErrInvalid for a wrong shape, a tensor stored
// twice (also: stacked and per expert), or sizes that do not agree;
// ErrQuantized for a tensor of any other dtype.
func Describe(cfg *Config, infos []safetensors.Info) (*Model, error) {
	d := newDescriber(cfg, infos)
	for i := range infos {
		if err := d.place(&infos[i]); err != nil {
			return nil, err
		}
	}
	return d.model(), nil
}

// Survey is Describe for reports on checkpoints that may be quantised or
// damaged: what Describe refuses becomes a note. Further tensors of known
// modules (scales, packed weights) are listed as Auxiliary, and a module that
// has one does not miss its weight.
func Survey(cfg *Config, infos []safetensors.Info) *Model {
	d := newDescriber(cfg, infos)
	d.lenient, d.misfit = true, map[int32]*safetensors.Info{}
	for i := range infos {
		if err := d.place(&infos[i]); err != nil {
			d.note("%v", err)
			if pos, ok := d.index[infos[i].Name]; ok && d.found[pos].info == nil {
				d.misfit[pos] = &infos[i]
			}
		}
	}
	return d.model()
}

// Rows returns the table that the checkpoint was matched with: that of the
// config, with the MTP layers that are stored without being declared.
func (m *Model) Rows() []Tensor { return m.rows }

// describer collects where each table row was found.
type describer struct {
	cfg     *Config
	rows    []Tensor
	index   map[string]int32
	found   []place // one for each row
	stacked map[string]stack
	misfit  map[int32]*safetensors.Info // rows stored in another shape; lenient only
	lenient bool

	unexpected []safetensors.Info
	notes      []string
	narrow     int // router biases that are not F32
	narrowName string
	dtypes     map[safetensors.DType]bool
}

// place is where a row's data lies; info is nil while it is not found.
type place struct {
	info         *safetensors.Info
	offset, size int64
}

// stack describes a stacked v5 expert tensor: which rows it stands for.
// Rows of a layer's experts are stored expert by expert: gate, up, down.
type stack struct {
	first int // table position of expert 0's gate row
	parts []int
	shape []int64
}

func newDescriber(cfg *Config, infos []safetensors.Info) *describer {
	d := &describer{cfg: cfg, dtypes: map[safetensors.DType]bool{}}
	if n := storedMTPLayers(cfg, infos); n > cfg.MTPLayers {
		d.rows = cfg.build(n)
		d.index = rowPositions(d.rows)
		d.notes = append(d.notes, cfg.undeclaredMTP())
	} else {
		d.rows, d.index = cfg.Table(), cfg.positions()
	}
	d.found = make([]place, len(d.rows))
	d.notes = append(d.notes, cfg.Notes...)
	d.stacked = map[string]stack{}
	h, m, e := int64(cfg.HiddenSize), int64(cfg.MoEIntermediateSize), int64(cfg.Experts)
	for i := range d.rows {
		if t := &d.rows[i]; t.Role == ExpertGate && t.Expert == 0 {
			gateUp, down := cfg.StackedExperts(t.Layer)
			d.stacked[gateUp] = stack{first: i, parts: []int{0, 1}, shape: []int64{e, 2 * m, h}}
			d.stacked[down] = stack{first: i, parts: []int{2}, shape: []int64{e, h, m}}
		}
	}
	return d
}

func (c *Config) undeclaredMTP() string {
	if c.MTPDeclared {
		return fmt.Sprintf("config.json says num_nextn_predict_layers = %d, but tensors of a further MTP layer are stored", c.MTPLayers)
	}
	return "config.json has no num_nextn_predict_layers, but tensors of an MTP layer are stored"
}

// storedMTPLayers counts the MTP layers of which a tensor is stored that only
// MTP layers have, at most 16.
func storedMTPLayers(cfg *Config, infos []safetensors.Info) int {
	n := cfg.MTPLayers
	for ; n < 16; n++ {
		prefix := cfg.LayerPrefix(cfg.Layers + n)
		if !slices.ContainsFunc(infos, func(t safetensors.Info) bool {
			rest, ok := strings.CutPrefix(t.Name, prefix)
			return ok && isMTPGlue(rest)
		}) {
			break
		}
	}
	return n
}

func isMTPGlue(rest string) bool {
	for _, r := range slices.Concat(mtpInRows, mtpOutRows) {
		if r.name == rest {
			return true
		}
	}
	return false
}

// place files one stored tensor.
func (d *describer) place(info *safetensors.Info) error {
	if pos, ok := d.index[info.Name]; ok {
		row := &d.rows[pos]
		if err := d.fits(info, row.Shape); err != nil {
			return err
		}
		if row.Role == RouterBias && info.DType != safetensors.F32 {
			d.narrow++
			d.narrowName = info.Name
		}
		return d.put(int(pos), info, 0, info.Size)
	}
	if s, ok := d.stacked[info.Name]; ok {
		return d.placeStack(info, s)
	}
	d.unexpected = append(d.unexpected, *info)
	return nil
}

func (d *describer) placeStack(info *safetensors.Info, s stack) error {
	if err := d.fits(info, s.shape); err != nil {
		return err
	}
	size := info.Size / int64(d.cfg.Experts*len(s.parts))
	offset := int64(0)
	for e := range d.cfg.Experts {
		for _, part := range s.parts {
			if err := d.put(s.first+3*e+part, info, offset, size); err != nil {
				return err
			}
			offset += size
		}
	}
	return nil
}

// fits checks dtype, shape and size of a stored tensor.
func (d *describer) fits(info *safetensors.Info, shape []int64) error {
	switch info.DType {
	case safetensors.BF16, safetensors.F16, safetensors.F32:
	default:
		if d.lenient {
			d.dtypes[info.DType] = true
			return nil // packed codes have other shapes
		}
		return d.wrongDType(info)
	}
	if !slices.Equal(info.Shape, shape) {
		return &TensorError{Tensor: info.Name, File: info.File, Kind: ErrInvalid,
			Reason: fmt.Sprintf("expected shape %v by config.json, found %v", shape, info.Shape),
			Advice: "config.json and weights are of different models, or the tensor was cut"}
	}
	if want := safetensors.DataSize(info.DType, info.Shape); info.Size != want {
		return &TensorError{Tensor: info.Name, File: info.File, Kind: ErrInvalid,
			Reason: fmt.Sprintf("%s%v takes %d bytes, found %d", info.DType, info.Shape, want, info.Size)}
	}
	d.dtypes[info.DType] = true
	return nil
}

func (d *describer) wrongDType(info *safetensors.Info) error {
	e := &TensorError{Tensor: info.Name, File: info.File, Kind: ErrQuantized,
		Reason: fmt.Sprintf("dtype %s; BF16, F16 or F32 is needed", info.DType),
		Advice: "convert from the BF16 release"}
	switch info.DType {
	case safetensors.F8E4M3, safetensors.F8E5M2:
		e.Advice = "quantized weights are decoded by their layout first (layout.NewView)"
	}
	if err := AsConfigError(d.cfg.RequireUnquantized()); err != nil {
		e.Reason += ": " + err.Reason
		e.Advice = err.Advice
	}
	return e
}

func (d *describer) put(row int, info *safetensors.Info, offset, size int64) error {
	if old := d.found[row].info; old != nil {
		reason := fmt.Sprintf("stored twice, also in %s", old.File)
		if old.Name != info.Name {
			reason = fmt.Sprintf("%s holds the same weights: stacked and per-expert tensors cannot both be there", old.Name)
		}
		return &TensorError{Tensor: info.Name, File: info.File, Reason: reason, Kind: ErrInvalid}
	}
	d.found[row] = place{info: info, offset: offset, size: size}
	return nil
}

func (d *describer) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// model gathers the result.
func (d *describer) model() *Model {
	m := &Model{Config: d.cfg, Entries: make([]Entry, 0, len(d.rows)), rows: d.rows}
	m.Unexpected = d.unexpected
	covered := map[string]bool{}
	if d.lenient {
		m.Unexpected = nil
		d.splitAuxiliary(m, covered)
	}
	for i := range d.rows {
		t := &d.rows[i]
		if p := d.found[i]; p.info != nil {
			m.Entries = append(m.Entries, Entry{Tensor: t, Source: *p.info, Offset: p.offset, Size: p.size})
			continue
		}
		if info := d.misfit[int32(i)]; info != nil {
			m.Misfits = append(m.Misfits, Entry{Tensor: t, Source: *info, Size: info.Size})
		}
		if !t.Optional && !covered[t.Module] {
			m.Missing = append(m.Missing, *t)
		}
	}
	m.MTP = d.mtp(m)
	if d.narrow > 0 {
		d.note("%d router biases are not F32 (%s): selection of experts may already have changed", d.narrow, d.narrowName)
	}
	m.Notes = d.notes
	return m
}

// splitAuxiliary sorts the tensors that are in no table: those of a known
// module under another parameter name, and the rest.
func (d *describer) splitAuxiliary(m *Model, covered map[string]bool) {
	modules := make(map[string]bool, len(d.rows))
	for i := range d.rows {
		modules[d.rows[i].Module] = true
	}
	for _, info := range d.unexpected {
		if module, param := ModuleOf(info.Name); modules[module] {
			m.Auxiliary = append(m.Auxiliary, info)
			if strings.Contains(param, "weight_packed") || param == "qweight" {
				covered[module] = true
			}
			continue
		}
		m.Unexpected = append(m.Unexpected, info)
	}
}

// mtp sums up the first MTP layer; nil if there is none in config and files.
func (d *describer) mtp(m *Model) *MTP {
	layer := d.cfg.Layers
	var state *MTP
	for i := range d.rows {
		t := &d.rows[i]
		if !t.MTP || t.Layer != layer {
			continue
		}
		if state == nil {
			state = &MTP{Layer: layer}
		}
		at := d.found[i].info
		if at == nil {
			at = d.misfit[int32(i)]
		}
		if at == nil {
			continue
		}
		switch t.Role {
		case MTPEmbedding:
			state.EmbedTokens = true
		case MTPHead:
			state.SharedHead = true
		case MTPProj:
			state.File = at.File
		}
	}
	if state == nil {
		return nil
	}
	for i := range m.Missing {
		if m.Missing[i].MTP && m.Missing[i].Layer == layer {
			state.MissingCount++
		}
	}
	state.Complete = state.MissingCount == 0
	return state
}

// Parameters returns the number of elements of all tensors in the tables that
// the checkpoint holds, MTP layer and its copies included.
func (m *Model) Parameters() int64 {
	sum := int64(0)
	for i := range m.Entries {
		sum += m.Entries[i].Elements()
	}
	return sum
}

// Elements returns the number of elements of the tensor.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// ByRole returns the entries with a role, in table order.
func (m *Model) ByRole(r Role) []Entry {
	var list []Entry
	for i := range m.Entries {
		if m.Entries[i].Role == r {
			list = append(list, m.Entries[i])
		}
	}
	return list
}
