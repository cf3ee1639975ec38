package numeric

// Code is the number format of the stored integers or bytes of a weight.
type Code uint8

// The code formats. Int4 codes are two's complement in [-8, 7].
const (
	E4M3 Code = iota + 1 // FP8 E4M3FN, one byte
	Int8                 // one byte, two's complement
	Int4                 // a nibble
	E2M1                 // FP4 E2M1, a nibble
)

// Bits returns the width of one code.
func (c Code) Bits() int {
	if c == Int4 || c == E2M1 {
		return 4
	}
	return 8
}

// Matrix is the one in-memory form of a quantised weight: layout readers
// produce it, kernels and comparisons consume it. The weight is
// [Rows, Cols] = [out_features, in_features].
//
// Codes are row-major. E4M3 and Int8 take one byte an element. Int4 and E2M1 pack two
// elements of a row in a byte, the even column in the low nibble (Int4 in two's
// complement); a row takes (Cols+1)/2 bytes.
//
// Scales are row-major over the grid of scale blocks: element (r, c) has the
// scale Scales[(r/BlockRows)*ScaleCols() + c/BlockCols], and its value is
// code × scale. BlockRows 1 and BlockCols = Cols is a channel scale, (1, g) a
// group scale, (128, 128) block FP8. Ragged edges belong to the last block.
//
// Formats with scales of a byte keep them beside what they stand for:
// ScaleCodes are E4M3 (NVFP4, where Scales are code/Global, or code·Global with
// Times) or E8M0 (MX).
//
// Asymmetric integer codes have a zero point beside each scale: the value is
// (code − zero)·scale. Weights in the order of activations (GPTQ desc_act) have
// Order: column c has the scale of column Order[c] of the grid.
type Matrix struct {
	Code       Code
	Rows, Cols int
	BlockRows  int
	BlockCols  int
	Codes      []byte
	Scales     []float32
	ScaleCodes []byte  // nil where scales are stored as numbers
	Global     float32 // NVFP4: what local scales are divided by; 0 elsewhere
	Times      bool    // Global multiplies (ModelOpt, Quark)
	Zeros      []int16 // nil, or a zero point for each scale, in terms of Codes: −128 … 256
	Order      []int32 // nil, or the scale column of each column
}

// Plain reports whether codes and scales are all there is: no zero points, no
// order of columns.
func (m *Matrix) Plain() bool { return m.Zeros == nil && m.Order == nil }

// Slice returns rows lo..hi of the matrix, which it shares. lo must be a
// multiple of BlockRows, or below it in a matrix with one block of rows.
func (m *Matrix) Slice(lo, hi int) *Matrix {
	out := *m
	out.Rows = hi - lo
	out.Codes = m.Codes[lo*m.RowBytes() : hi*m.RowBytes()]
	at, n := lo/m.BlockRows*m.ScaleCols(), out.ScaleRows()*m.ScaleCols()
	out.Scales = m.Scales[at:][:n]
	if m.ScaleCodes != nil {
		out.ScaleCodes = m.ScaleCodes[at:][:n]
	}
	if m.Zeros != nil {
		out.Zeros = m.Zeros[at:][:n]
	}
	return &out
}

// ScaleRows returns the number of scale rows, ceil(Rows/BlockRows).
func (m *Matrix) ScaleRows() int { return (m.Rows + m.BlockRows - 1) / m.BlockRows }

// ScaleCols returns the number of scales in a scale row, ceil(Cols/BlockCols).
func (m *Matrix) ScaleCols() int { return (m.Cols + m.BlockCols - 1) / m.BlockCols }

// RowBytes returns the bytes of one row of Codes.
func (m *Matrix) RowBytes() int {
	if m.Code.Bits() == 4 {
		return (m.Cols + 1) / 2
	}
	return m.Cols
}

// Arith chooses between the smaller error and the reference tool's bytes.
type Arith uint8

// The arithmetic modes.
const (
	Best   Arith = iota // codes from FP32 against the stored scale; scale search for int4
	Compat              // byte-identical to the layout's reference tool
)

// ScaleRule is the arithmetic by which a layout derives a scale from a block
// of weights.
type ScaleRule uint8

// The scale rules.
const (
	// CompressedTensors: absmax/448, /127.5, /7.5, stored BF16; compat does
	// every step in BF16 (docs/facts/layouts.md 1.4, 1.5).
	CompressedTensors ScaleRule = iota + 1
	// DeepSeekBlock: a = max(absmax, 1e-4), s = a/448 in F32, q = e4m3(x·(448/a))
	// (docs/facts/layouts.md 2.3), stored F32.
	DeepSeekBlock
	// Ascend: absmax/127 or /7 with floor 2^-23. Int8 scales are BF16 values
	// stored as F32, chosen before the codes; int4 scales stay F32
	// (docs/facts/ascend.md 2.1-2.5). Compat is msmodelslim's BF16 arithmetic and
	// its SSZ search for int4.
	Ascend
	// MX: groups of 32 of E2M1 or E4M3 with powers of two for scales, stored E8M0
	// (docs/facts/layouts.md 1.8). Best chooses among neighbouring exponents.
	MX
	// NVFP4: groups of 16 of E2M1 with E4M3 scales, divided by Spec.Global
	// (docs/facts/layouts.md 1.7). Best searches the local scale.
	NVFP4
)

// Spec says how a weight is quantised; it is all that the arithmetic needs.
type Spec struct {
	Code      Code
	Rule      ScaleRule
	Arith     Arith
	BlockRows int  // 1, or 128 for block FP8
	BlockCols int  // 0: the whole row
	Signed    bool // negative scales are legal in the layout (best int4 search may use them)
	// FP8Scales asks for group scales that survive vLLM's conversion of W4A8-FP8
	// group scales to e4m3(s/c)/8 times a row scale (docs/facts/engine-vllm.md
	// 5 item 2).
	FP8Scales bool
	// SourceF32 tells Compat that the checkpoint holds F32 weights, so that the
	// reference tool computes, and stores its scales, in F32 instead of BF16.
	// Best ignores it.
	SourceF32 bool
	// SSZSteps sets the steps of msmodelslim's int4 search (Compat, Ascend) for
	// every row, whatever the tile; -1 means none. 0 takes src for the whole
	// weight: at most 50 steps, stopping where that tool does. See Stats.SSZStop.
	SSZSteps int
	// Global is the scale of the local scales of NVFP4, see SampleGlobal. Times
	// says that it multiplies.
	Global float32
	Times  bool
}

// Stats sums a tile's quantisation error, in float64, so that tiles add up.
type Stats struct {
	SumSq    float64 // Σ w²
	SumErrSq float64 // Σ (ŵ−w)²
	MaxErr   float64 // max |ŵ−w|
	PlainSq  float64 // Σ (ŵ−w)² of plain absmax rounding, where a search ran; else equal to SumErrSq
	Elements int64
	// SSZ has bit i set if step i of msmodelslim's int4 search (Compat) brought
	// a row further than its convergence bound, and SSZLast is one more than the
	// last step at which a row took a new scale. That tool stops a whole tensor
	// after the first step that helps no row, which a tile cannot see: SSZStop.
	SSZ     uint64
	SSZLast int
}

// Add accumulates o into s.
func (s *Stats) Add(o Stats) {
	s.SumSq += o.SumSq
	s.SumErrSq += o.SumErrSq
	s.PlainSq += o.PlainSq
	s.Elements += o.Elements
	s.MaxErr = max(s.MaxErr, o.MaxErr)
	s.SSZ |= o.SSZ
	s.SSZLast = max(s.SSZLast, o.SSZLast)
}
