package mutate

import (
	"encoding/binary"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

// each changes every value of a float tensor. It reports whether a byte changed.
func (t *Tensor) each(fn func(float64) float64) bool {
	old := slices.Clone(t.Data)
	switch t.DType {
	case safetensors.F32:
		for i := 0; i < len(t.Data); i += 4 {
			v := math.Float32frombits(binary.LittleEndian.Uint32(t.Data[i:]))
			binary.LittleEndian.PutUint32(t.Data[i:], math.Float32bits(float32(fn(float64(v)))))
		}
	case safetensors.BF16:
		for i := 0; i < len(t.Data); i += 2 {
			v := math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.Data[i:])) << 16)
			binary.LittleEndian.PutUint16(t.Data[i:], bf16(float32(fn(float64(v)))))
		}
	default:
		return false
	}
	return !slices.Equal(old, t.Data)
}

// bf16 rounds to the nearest even.
func bf16(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// cast stores the router biases as BF16.
func cast(s Set) bool {
	hit := false
	for _, n := range s.Names(func(n string) bool { return strings.HasSuffix(n, "e_score_correction_bias") }) {
		t := s[n]
		if t.DType != safetensors.F32 {
			continue
		}
		out := make([]byte, 0, len(t.Data)/2)
		for i := 0; i < len(t.Data); i += 4 {
			out = binary.LittleEndian.AppendUint16(out, bf16(math.Float32frombits(binary.LittleEndian.Uint32(t.Data[i:]))))
		}
		t.DType, t.Data, hit = safetensors.BF16, out, true
	}
	return hit
}

// rounded keeps F32 and leaves BF16's values in it.
func rounded(s Set) bool {
	hit := false
	for _, n := range s.Names(func(n string) bool { return strings.HasSuffix(n, "e_score_correction_bias") }) {
		if s[n].DType == safetensors.F32 {
			hit = s[n].each(func(v float64) float64 {
				return float64(math.Float32frombits(uint32(bf16(float32(v))) << 16))
			}) || hit
		}
	}
	return hit
}

// quantise stores BF16 matrices as INT8 with a scale per row.
func quantize(pattern string) func(Set) bool {
	return func(s Set) bool {
		hit := false
		for _, n := range s.Names(regexp.MustCompile(pattern).MatchString) {
			t := s[n]
			if t.DType != safetensors.BF16 || len(t.Shape) != 2 {
				continue
			}
			rows, cols := int(t.Shape[0]), int(t.Shape[1])
			scale := &Tensor{safetensors.Spec{Name: n + "_scale", DType: safetensors.F32, Shape: []int64{t.Shape[0], 1}}, t.File, nil}
			codes := make([]byte, 0, rows*cols)
			for r := range rows {
				row, most := make([]float64, cols), 0.0
				for c := range cols {
					row[c] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.Data[2*(r*cols+c):])) << 16))
					most = max(most, math.Abs(row[c]))
				}
				step := max(most/127, 1e-12)
				for _, v := range row {
					codes = append(codes, byte(int8(math.RoundToEven(v/step))))
				}
				scale.Data = binary.LittleEndian.AppendUint32(scale.Data, math.Float32bits(float32(step)))
			}
			t.DType, t.Data, s[scale.Name], hit = safetensors.I8, codes, scale, true
		}
		return hit
	}
}

// mtpLayer is the prefix of the last layer, if it has an eh_proj.
func (s Set) mtpLayer() string {
	n := s.find(body + `\d+\.eh_proj\.weight$`)
	return strings.TrimSuffix(n, "eh_proj.weight")
}

func dropMTP(s Set) bool {
	p := s.mtpLayer()
	if p == "" {
		return false
	}
	list := s.Names(func(n string) bool { return strings.HasPrefix(n, p) })
	for _, n := range list {
		delete(s, n)
	}
	return true
}

// halves swaps the columns of eh_proj that read the embedding with those that
// read the hidden state.
func halves(s Set) bool {
	t := s[s.mtpLayer()+"eh_proj.weight"]
	if t == nil || len(t.Shape) != 2 {
		return false
	}
	row := len(t.Data) / int(t.Shape[0])
	old := slices.Clone(t.Data)
	for i := 0; i < len(old); i += row {
		copy(t.Data[i:], old[i+row/2:i+row])
		copy(t.Data[i+row/2:], old[i:i+row/2])
	}
	return !slices.Equal(old, t.Data)
}

// alias gives the head the embedding's values, and the MTP layer's copy too.
func alias(s Set) bool {
	e := s[s.find(`(^|\.)embed_tokens\.weight$`)]
	hit := false
	for _, n := range s.Names(regexp.MustCompile(`(^lm_head|shared_head\.head)\.weight$`).MatchString) {
		if t := s[n]; e != nil && t.DType == e.DType && slices.Equal(t.Shape, e.Shape) && !slices.Equal(t.Data, e.Data) {
			t.Data, hit = slices.Clone(e.Data), true
		}
	}
	return hit
}

func flip(s Set) bool {
	n := s.find(body + strconv.Itoa(1) + `\.input_layernorm\.weight$`)
	if n == "" {
		return false
	}
	s[n].Data[0] ^= 1
	return true
}
