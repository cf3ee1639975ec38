package quant

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// Calibration says which text a result was learnt from, so that whoever judges it
// can tell whether it is judged on the same: numbers, a hash of the ids, and the
// smallest hashes of its runs of 16 tokens.
type Calibration struct {
	Tokens    int    `json:"tokens"`
	Sequences int    `json:"sequences"`
	SHA256    string `json:"sha256"` // of the ids, 4 bytes each, -1 after a sequence
	// Sketch are up to 512 hashes of runs, the smallest of all, rising, 8 bytes
	// each, little-endian, base64.
	Sketch string `json:"sketch"`
}

const (
	sketchRun   = 16  // tokens of a run
	sketchSize  = 512 // hashes that are kept
	sketchLeast = 2   // hashes that two texts share if they share text
)

// NewCalibration describes token sequences.
func NewCalibration(seqs [][]int) *Calibration {
	c := &Calibration{Sequences: len(seqs)}
	h := sha256.New()
	for _, s := range seqs {
		c.Tokens += len(s)
		for _, id := range append(slices.Clip(s), -1) {
			_ = binary.Write(h, binary.LittleEndian, int32(id))
		}
	}
	c.SHA256 = hex.EncodeToString(h.Sum(nil))
	list := runs(seqs)
	list = list[:min(len(list), sketchSize)]
	var raw []byte
	for _, v := range list {
		raw = binary.LittleEndian.AppendUint64(raw, v)
	}
	c.Sketch = base64.StdEncoding.EncodeToString(raw)
	return c
}

// runs are the hashes of all runs of tokens, rising, each once.
func runs(seqs [][]int) (out []uint64) {
	for _, s := range seqs {
		for i := 0; i+sketchRun <= len(s); i++ {
			h := uint64(14695981039346656037)
			for _, id := range s[i : i+sketchRun] {
				h = (h ^ uint64(uint32(id))) * 1099511628211
				h ^= h >> 29
			}
			h = (h ^ h>>30) * 0xbf58476d1ce4e5b9 // spread: the smallest stand for all
			out = append(out, h^h>>31)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Seen estimates which share of token sequences is text that was calibrated on: of
// their runs whose hashes are as small as those of the sketch, how many are in it.
// The standard error is about the root of the share over the number of such runs.
func (c *Calibration) Seen(seqs [][]int) float64 {
	raw, err := base64.StdEncoding.DecodeString(c.Sketch)
	if err != nil || len(raw) < 8 || len(raw)%8 != 0 {
		return 0
	}
	sketch := make([]uint64, len(raw)/8)
	for i := range sketch {
		sketch[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
	slices.Sort(sketch)
	small, shared := 0, 0
	for _, v := range runs(seqs) {
		if v > sketch[len(sketch)-1] && len(sketch) >= sketchSize {
			break
		}
		small++
		if _, ok := slices.BinarySearch(sketch, v); ok {
			shared++
		}
	}
	if shared < sketchLeast {
		return 0
	}
	return float64(shared) / float64(small)
}
