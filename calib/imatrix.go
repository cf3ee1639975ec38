package calib

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/lazy"
)

// imatrixEntry is what an importance matrix says of the input of one tensor:
// means of squares [parts, columns], a part for each expert, and the tokens that
// each part saw.
type imatrixEntry struct {
	means  []float64
	counts []int64
}

// Import reads llama.cpp's importance matrix, as GGUF or in the older form (dat),
// for a model: mean squares of inputs and nothing else, so that scales can be
// weighted by them and neither folds searched nor codes learnt. Names that the
// model has no tensor for are left out and returned. Errors match ErrStatistics.
func Import(cfg *glm.Config, raw []byte) (s *Statistics, unknown []string, err error) {
	r := &binaryReader{b: raw}
	entries := map[string]imatrixEntry{}
	if len(raw) >= 4 && string(raw[:4]) == "GGUF" {
		entries = r.gguf()
	} else {
		r.dat(entries)
	}
	if r.err != nil {
		return nil, nil, fmt.Errorf("%w: no importance matrix of llama.cpp: %w at byte %d", ErrStatistics, r.err, r.at)
	}
	s = &Statistics{held: map[string]*Moments{}, Caches: map[string]*Limits{}}
	for name, e := range entries {
		ok, err := s.take(cfg, name, e)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	if len(s.held) == 0 {
		return nil, nil, fmt.Errorf("%w: an importance matrix of another model: no name in it is one of %s", ErrStatistics, cfg.Family)
	}
	return s, unknown, nil
}

var ggufName = lazy.Regexp(`^blk\.(\d{1,4})\.([a-z_]+)\.weight$`)

// ggufRoles are llama.cpp's names of what a scheme can quantize.
var ggufRoles = map[string]glm.Role{
	"attn_q": glm.AttnQ, "attn_k": glm.AttnK, "attn_v": glm.AttnV, "attn_output": glm.AttnO,
	"attn_q_a": glm.AttnQA, "attn_q_b": glm.AttnQB, "attn_kv_a_mqa": glm.AttnKVA, "attn_kv_b": glm.AttnKVB,
	"ffn_gate": glm.DenseGate, "ffn_up": glm.DenseUp, "ffn_down": glm.DenseDown, "ffn_gate_inp": glm.Router,
	"ffn_gate_shexp": glm.SharedGate, "ffn_up_shexp": glm.SharedUp, "ffn_down_shexp": glm.SharedDown,
	"ffn_gate_exps": glm.ExpertGate, "ffn_up_exps": glm.ExpertUp, "ffn_down_exps": glm.ExpertDown,
}

// take puts an entry under the names of the family's table.
func (s *Statistics) take(cfg *glm.Config, name string, e imatrixEntry) (ok bool, err error) {
	m := ggufName().FindStringSubmatch(name)
	if m == nil || ggufRoles[m[2]] == glm.Unknown {
		return false, nil
	}
	layer, _ := strconv.Atoi(m[1])
	role := ggufRoles[m[2]]
	t := s.find(cfg, layer, role, 0)
	if t == nil {
		return false, nil
	}
	cols, parts := int(t.Shape[1]), 1
	if role.IsExpert() {
		parts = cfg.Experts
	}
	if len(e.means) != cols*parts || len(e.counts) != parts && len(e.counts) != 1 {
		return false, fmt.Errorf("%w: %s has %d values, the model's %s takes %d", ErrStatistics, name, len(e.means), t.Name, cols*parts)
	}
	for p := range parts {
		n := e.counts[min(p, len(e.counts)-1)]
		if n == 0 {
			continue // an expert that saw nothing is rounded as without statistics
		}
		x := newMoments(cols)
		x.Count, x.Lo, x.Hi = n, nil, nil
		for c, v := range e.means[p*cols:][:cols] {
			x.sum2[c] = fixedOf(min(v*float64(n), 1<<62))
		}
		s.held[s.find(cfg, layer, role, p).Name] = x
	}
	return true, nil
}

// binaryReader reads little-endian numbers; the first error stays.
type binaryReader struct {
	b   []byte
	at  int
	err error
}

var errShort = errors.New("it ends too early or has an impossible length")

// bytes returns the next n bytes; nil once there was an error.
func (r *binaryReader) bytes(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.b)-r.at) {
		r.err = errShort
	}
	if r.err != nil {
		return nil
	}
	out := r.b[r.at:][:n]
	r.at += int(n)
	return out
}

func (r *binaryReader) u32() uint64 {
	if b := r.bytes(4); b != nil {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return 0
}

func (r *binaryReader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// floats are n float32 of at least 0.
func (r *binaryReader) floats(n uint64) []float64 {
	if n > uint64(len(r.b)) {
		r.err = errShort
	}
	b := r.bytes(4 * n)
	out := make([]float64, len(b)/4)
	for i := range out {
		if out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))); !(out[i] >= 0 && out[i] <= math.MaxFloat32) && r.err == nil {
			r.err = fmt.Errorf("a mean of squares is %g", out[i])
		}
	}
	return out
}

// datChunk is how many tokens llama.cpp's older form counts as one call.
const datChunk = 512

// dat reads the older form: sums over calls, of each tensor by name.
func (r *binaryReader) dat(into map[string]imatrixEntry) {
	n := r.u32()
	if n == 0 && r.err == nil {
		r.err = errors.New("it has no entries")
	}
	for range n {
		name := string(r.bytes(r.u32()))
		calls := r.u32()
		e := imatrixEntry{means: r.floats(r.u32())}
		if r.err != nil {
			return
		}
		if calls == 0 || calls > math.MaxInt32 {
			r.err = fmt.Errorf("%.60q was seen in %d calls", name, int32(calls))
			return
		}
		for i := range e.means {
			e.means[i] /= float64(calls)
		}
		e.counts = []int64{int64(calls) * datChunk}
		into[name] = e
	}
}
