package synth

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"sync"

	"github.com/x448/float16"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// stream is a random stream with random access: word i is a hash of key and i,
// and each word gives four elements, 16 bits each. The 16 bits pick one of the
// 65,536 equally likely quantiles of the distribution from a table, so that an
// element costs a lookup.
type stream struct {
	key   uint64
	table *table
}

// table holds the quantiles of one distribution in one dtype.
type table struct {
	half []uint16 // BF16 or F16 bits
	full []uint32 // F32 bits
}

func newStream(seed uint64, p part) stream {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.key)) // a hash never fails
	mean, sigma := moments(seed, p)
	return stream{key: mix(seed ^ mix(h.Sum64())), table: tableOf(p.dtype, mean, sigma)}
}

// moments returns mean and standard deviation of a tensor's elements.
func moments(seed uint64, p part) (mean, sigma float64) {
	switch {
	case p.role == glm.RouterBias:
		// A level for each layer, as trained models have: 7 to 11.
		return 7 + float64(mix(seed+uint64(p.layer))%17)/4, 0.05
	case p.role == glm.LayerNorm, p.role == glm.FinalNorm, p.role == glm.QKNorm, p.role == glm.LatentNorm, p.role == glm.MTPNorm,
		p.role == glm.VisionNorm && !isBias(p.key), p.role == glm.IndexerKNorm && !isBias(p.key):
		return 1, 0.05
	case isBias(p.key):
		return 0, 0.1
	}
	return 0, 0.02
}

func isBias(name string) bool {
	_, param := glm.ModuleOf(name)
	return param == "bias"
}

// mix is the finalizer of splitmix64 (Steele, Lea, Flood 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// word returns 64 random bits.
func (s stream) word(i uint64) uint64 { return mix(s.key + i*0x9e3779b97f4a7c15) }

// fill writes the elements from number first on into dst. First must be a
// multiple of 4, and dst a whole number of elements.
func (s stream) fill(dst []byte, first int64) {
	i := uint64(first) / 4
	if t := s.table.full; t != nil {
		for ; len(dst) >= 16; dst = dst[16:] {
			w := s.word(i)
			i++
			binary.LittleEndian.PutUint64(dst, uint64(t[w&0xffff])|uint64(t[w>>16&0xffff])<<32)
			binary.LittleEndian.PutUint64(dst[8:], uint64(t[w>>32&0xffff])|uint64(t[w>>48])<<32)
		}
		for w := s.word(i); len(dst) >= 4; dst = dst[4:] {
			binary.LittleEndian.PutUint32(dst, t[w&0xffff])
			w >>= 16
		}
		return
	}
	t := s.table.half
	_ = t[0xffff]
	for ; len(dst) >= 8; dst = dst[8:] {
		w := s.word(i)
		i++
		binary.LittleEndian.PutUint64(dst, uint64(t[w&0xffff])|uint64(t[w>>16&0xffff])<<16|
			uint64(t[w>>32&0xffff])<<32|uint64(t[w>>48])<<48)
	}
	for w := s.word(i); len(dst) >= 2; dst = dst[2:] {
		binary.LittleEndian.PutUint16(dst, t[w&0xffff])
		w >>= 16
	}
}

type tableKey struct {
	dtype       safetensors.DType
	mean, sigma float64
}

var tables sync.Map // tableKey -> func() *table

func tableOf(dtype safetensors.DType, mean, sigma float64) *table {
	key := tableKey{dtype, mean, sigma}
	fn, ok := tables.Load(key)
	if !ok {
		fn, _ = tables.LoadOrStore(key, sync.OnceValue(func() *table { return makeTable(key) }))
	}
	return fn.(func() *table)()
}

func makeTable(k tableKey) *table {
	t := &table{}
	for i := range 1 << 16 {
		quantile := math.Sqrt2 * math.Erfinv(2*(float64(i)+0.5)/(1<<16)-1)
		v := float32(k.mean + k.sigma*quantile)
		switch k.dtype {
		case safetensors.F32:
			t.full = append(t.full, math.Float32bits(v))
		case safetensors.F16:
			t.half = append(t.half, float16.Fromfloat32(v).Bits())
		default:
			bits := math.Float32bits(v)
			t.half = append(t.half, uint16((bits+0x7fff+bits>>16&1)>>16))
		}
	}
	return t
}
