package mutate

import (
	"encoding/binary"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

// OfFormats lists the mutations of formats with small groups, zero points and
// orders of columns, and of their scales' scales, as every tool stores them
// (docs/facts/formats.md 2 to 8).
func OfFormats() []Mutation {
	return []Mutation{
		{"scales of the neighbouring block", "sglang#29038: scale layout", tensors(onGroups(nextBlock)), []string{"down_proj"}, true},
		{"scales of the neighbouring row", "scale layout", tensors(onGroups(nextRow)), []string{"down_proj"}, true},
		{"halves of every byte swapped", "packing order", tensors(onCodes(swapNibbles)), []string{"down_proj"}, true},
		{"words in the other order of bytes", "packing of 32-bit words", tensors(onCodes(swapBytes)), []string{"down_proj"}, true},
		{"AWQ's order taken for GPTQ's", "another tool's packing", tensors(onCodes(awqOrder)), []string{"down_proj"}, true},
		{"columns moved by one word", "packing along the other axis", tensors(onCodes(nextWord)), []string{"down_proj"}, true},
		{"global scale of gate given to up", "llm-compressor 0.14: one for each", tensors(gateToUp), []string{"up_proj"}, true},
		{"global scale of another expert", "order of experts", tensors(otherGlobal), []string{"experts.0"}, true},
		{"global scale is its reciprocal", "ModelOpt's factor taken for compressed-tensors' divisor", tensors(onGlobals(func(v float64) float64 { return 1 / v })),
			[]string{"down_proj", "weight_scale_2", "weight_global_scale"}, true},
		{"exponents off by one", "bias of E8M0", tensors(onGroups(nextExponent)), []string{"down_proj"}, true},
		{"zero points off by one", "GPTQ v1 taken for v2", tensors(onZeros(func(z uint32) uint32 { return z + 0x11111111 })),
			[]string{"down_proj", "_proj"}, true},
		{"zero points of the neighbour", "packing order of zero points", tensors(onZeros(func(z uint32) uint32 { return z<<4 | z>>28 })),
			[]string{"down_proj", "_proj"}, true},
		{"g_idx permuted", "order of activations that codes do not have", tensors(permuteIndex), []string{"down_proj", "_proj"}, true},
		{"scales of inputs lost", "buffers that were not saved", tensors(dropAll(`\.input_(global_)?scale(_2)?$`)),
			[]string{"input_scale", "input_global_scale"}, false},
		{"scale of an input zero", "an expert that calibration never saw", tensors(onInputs(func(float64) float64 { return 0 })),
			[]string{"input_scale", "input_global_scale"}, true},
		{"scale of an input beyond all inputs", "a value that was never set", tensors(onInputs(func(v float64) float64 { return v * 1e30 })),
			[]string{"input_scale", "input_global_scale"}, true},
	}
}

// grouped is the first expert's down projection, or another one if it has no
// codes.
func (s Set) grouped() map[string]*Tensor {
	for _, pattern := range []string{body + `[12]\.mlp\.experts\.0\.down_proj$`, body + `[012]\.mlp\.down_proj$`, `down_proj$`} {
		re := regexp.MustCompile(pattern)
		for _, n := range s.Names(func(n string) bool {
			return strings.HasSuffix(n, "scale") || strings.HasSuffix(n, "scales") || strings.HasSuffix(n, "scale_inv")
		}) {
			module := n[:strings.LastIndexByte(n, '.')]
			if re.MatchString(module) && !strings.HasSuffix(n, "input_scale") && !strings.HasSuffix(n, "global_scale") {
				return s.Module(module)
			}
		}
	}
	return nil
}

// onGroups changes the scales of groups or blocks of one weight.
func onGroups(fn func(t *Tensor) bool) func(Set) bool {
	return func(s Set) bool {
		for _, part := range []string{"weight_scale", "weight_scale_inv", "scales"} {
			if t := s.grouped()[part]; t != nil && len(t.Data) > 1 {
				old := slices.Clone(t.Data)
				return fn(t) && !slices.Equal(old, t.Data)
			}
		}
		return false
	}
}

// nextBlock moves the scales of each row on by one.
func nextBlock(t *Tensor) bool {
	if len(t.Shape) != 2 || t.Shape[1] < 2 {
		return false
	}
	w, row := t.DType.Bits()/8, len(t.Data)/int(t.Shape[0])
	for lo := 0; lo < len(t.Data); lo += row {
		r := t.Data[lo : lo+row]
		copy(r, append(slices.Clone(r[w:]), r[:w]...))
	}
	return true
}

// nextRow moves the rows of scales on by one.
func nextRow(t *Tensor) bool {
	if len(t.Shape) != 2 || t.Shape[0] < 2 {
		return false
	}
	row := len(t.Data) / int(t.Shape[0])
	copy(t.Data, append(slices.Clone(t.Data[row:]), t.Data[:row]...))
	return true
}

// nextExponent doubles scales that are exponents.
func nextExponent(t *Tensor) bool {
	if t.DType != safetensors.U8 && t.DType != safetensors.F8E8M0 {
		return false
	}
	for i, b := range t.Data {
		t.Data[i] = min(b, 253) + 1
	}
	return true
}

// onCodes changes packed codes of one weight, words of 32 bits or bytes of two.
func onCodes(fn func(t *Tensor) bool) func(Set) bool {
	return func(s Set) bool {
		m := s.grouped()
		t := m["qweight"]
		for _, part := range []string{"weight_packed", "weight"} {
			if t == nil {
				t = m[part]
			}
		}
		if t == nil || t.DType != safetensors.U8 && t.DType != safetensors.I32 {
			return false
		}
		old := slices.Clone(t.Data)
		return fn(t) && !slices.Equal(old, t.Data)
	}
}

func swapNibbles(t *Tensor) bool {
	for i, b := range t.Data {
		t.Data[i] = b<<4 | b>>4
	}
	return true
}

func swapBytes(t *Tensor) bool {
	if t.DType != safetensors.I32 {
		return false
	}
	for i := 0; i < len(t.Data); i += 4 {
		binary.BigEndian.PutUint32(t.Data[i:], binary.LittleEndian.Uint32(t.Data[i:]))
	}
	return true
}

// awqOrder puts the nibbles of each word where AWQ has them.
func awqOrder(t *Tensor) bool {
	if t.DType != safetensors.I32 {
		return false
	}
	for i := 0; i < len(t.Data); i += 4 {
		old, out := binary.LittleEndian.Uint32(t.Data[i:]), uint32(0)
		for n, from := range []int{0, 2, 4, 6, 1, 3, 5, 7} {
			out |= old >> (4 * from) & 15 << (4 * n)
		}
		binary.LittleEndian.PutUint32(t.Data[i:], out)
	}
	return true
}

func nextWord(t *Tensor) bool {
	w := 4
	if len(t.Data) <= w {
		return false
	}
	copy(t.Data, append(slices.Clone(t.Data[w:]), t.Data[:w]...))
	return true
}

// global is the scale of a module's scales.
func (s Set) global(module string) *Tensor {
	if t := s[module+".weight_global_scale"]; t != nil {
		return t
	}
	return s[module+".weight_scale_2"]
}

// gateToUp gives the first up projection with a global scale of its own that of
// gate.
func gateToUp(s Set) bool {
	for _, n := range s.Names(func(n string) bool { return strings.Contains(n, ".up_proj.weight_") }) {
		module := n[:strings.LastIndexByte(n, '.')]
		a, b := s.global(strings.Replace(module, "up_proj", "gate_proj", 1)), s.global(module)
		if a != nil && b != nil && !slices.Equal(a.Data, b.Data) {
			copy(b.Data, a.Data)
			return true
		}
	}
	return false
}

// otherGlobal gives expert 0 the global scales of another one.
func otherGlobal(s Set) bool {
	hit := false
	for _, n := range s.Names(regexp.MustCompile(expert0 + `(gate|up|down)_proj\.weight_(global_scale|scale_2)$`).MatchString) {
		other := s[strings.Replace(n, ".experts.0.", ".experts.3.", 1)]
		if other != nil && !slices.Equal(other.Data, s[n].Data) {
			copy(s[n].Data, other.Data)
			hit = true
		}
	}
	return hit
}

func onGlobals(fn func(float64) float64) func(Set) bool {
	return func(s Set) bool {
		m := s.grouped()
		for _, part := range []string{"weight_global_scale", "weight_scale_2"} {
			if t := m[part]; t != nil {
				return t.each(fn)
			}
		}
		return false
	}
}

// onZeros changes the packed zero points of one weight.
func onZeros(fn func(z uint32) uint32) func(Set) bool {
	return func(s Set) bool {
		t := s.grouped()["qzeros"]
		if t == nil {
			return false
		}
		old := slices.Clone(t.Data)
		for i := 0; i < len(t.Data); i += 4 {
			binary.LittleEndian.PutUint32(t.Data[i:], fn(binary.LittleEndian.Uint32(t.Data[i:])))
		}
		return !slices.Equal(old, t.Data)
	}
}

// permuteIndex shuffles the groups that columns belong to.
func permuteIndex(s Set) bool {
	t := s.grouped()["g_idx"]
	if t == nil || len(t.Data) < 8 {
		return false
	}
	old := slices.Clone(t.Data)
	for i, j := range rand.New(rand.NewPCG(5, 6)).Perm(len(old) / 4) {
		copy(t.Data[4*i:4*i+4], old[4*j:])
	}
	return !slices.Equal(old, t.Data)
}

// onInputs changes the scale of one input.
func onInputs(fn func(float64) float64) func(Set) bool {
	return func(s Set) bool {
		for _, n := range s.Names(regexp.MustCompile(`experts\.1\..*\.?input_(global_)?scale(_2)?$`).MatchString) {
			return s[n].each(fn)
		}
		return false
	}
}
