package numeric

// Decoder widens the weights of one dtype.
type Decoder struct {
	Size   int // bytes of an element
	Decode func(dst []float32, src []byte)
	BF16   bool // there are kernels that need no decoding
	F32    bool // values are what is stored
}

// weights are what Quantize works on, row-major: floats, bytes to be decoded,
// or codes with scales.
type weights struct {
	floats []float32
	raw    []byte
	Decoder
	stored *Matrix
}

func (w *weights) len() int {
	switch {
	case w.stored != nil:
		return w.stored.Rows * w.stored.Cols
	case w.Size > 0:
		return len(w.raw) / w.Size
	}
	return len(w.floats)
}

// decode writes weights from element at on, of bytes or codes.
func (w *weights) decode(dst []float32, at int) {
	if w.stored == nil {
		w.Decode(dst, w.raw[at*w.Size:(at+len(dst))*w.Size])
		return
	}
	for k := w.stored.Cols; len(dst) > 0; {
		r, c := at/k, at%k
		n := min(k-c, len(dst))
		w.stored.DequantColumns(dst, r, c, c+n)
		dst, at = dst[n:], at+n
	}
}

// inPlace tells whether weights are floats.
func (w *weights) inPlace() bool { return w.stored == nil && w.Size == 0 }

// take returns n weights from element at on, in place or decoded into the
// scratch's buffer.
func (x *Scratch) take(at, n int) []float32 {
	if x.src.inPlace() {
		return x.src.floats[at : at+n]
	}
	x.floats = resize(x.floats, n)
	x.src.decode(x.floats, at)
	return x.floats
}

// span is a run of weights that share a scale: floats, or bfloat16 bytes where
// there are kernels that take them as they are, by a reciprocal. With rows they are a block of 128 columns
// in a matrix of cols, raw beginning at its first weight; its codes go to such a
// block too.
type span struct {
	floats     []float32
	raw        []byte
	rows, cols int
	codes      []byte // or E4M3 codes with scales
	scaling
	most float32 // the largest magnitude of what codes stand for, once it is known
}

// span returns n weights from element at on.
func (x *Scratch) span(at, n int) span {
	if x.src.BF16 && x.spec.Arith == Best && takesBF16(n) {
		return span{raw: x.src.raw[2*at : 2*(at+n)]}
	}
	if w, ok := x.codesSpan(at, n); ok {
		return w
	}
	return span{floats: x.take(at, n)}
}

// block returns columns [lo, hi) of n rows from row r on, packed unless there
// are kernels for them where they are.
func (x *Scratch) block(r, n, lo, hi int) span {
	width := hi - lo
	if x.src.BF16 && width == blockWidth && n%2 == 0 && x.spec.Code == E4M3 && x.spec.Arith == Best && takesBF16(width) {
		return span{raw: x.src.raw[2*(r*x.m.Cols+lo):], rows: n, cols: x.m.Cols}
	}
	x.floats = resize(x.floats, n*width)
	for i := range n {
		dst, at := x.floats[i*width:][:width], (r+i)*x.m.Cols+lo
		if x.src.inPlace() {
			copy(dst, x.src.floats[at:])
		} else {
			x.src.decode(dst, at)
		}
	}
	return span{floats: x.floats}
}

// blockWidth is the columns of a block that has kernels.
const blockWidth = 128

func (w span) len() int {
	if w.rows > 0 {
		return w.rows * blockWidth
	}
	return max(len(w.floats), len(w.raw)/2, len(w.codes))
}

// absMaxBits is absMaxBits of the span.
func (w span) absMaxBits() (top uint32) {
	switch {
	case w.rows > 0:
		for r := range w.rows {
			top = max(top, absMaxBF16(w.raw[2*r*w.cols:][:2*blockWidth]))
		}
		return top
	case w.raw != nil:
		return absMaxBF16(w.raw)
	case w.codes != nil:
		return absMaxCodes(w.codes, w.scaling)
	}
	return absMaxBits(w.floats)
}

// head returns the first n weights, decoded into the scratch's buffer if need
// be.
func (w span) head(x *Scratch, n int) []float32 {
	if w.raw == nil && w.codes == nil {
		return w.floats[:n]
	}
	x.floats = resize(x.floats, n)
	if w.codes != nil {
		w.decode(x.floats, w.codes)
		return x.floats
	}
	if w.rows == 0 {
		DecodeBF16(x.floats, w.raw[:2*n])
		return x.floats
	}
	for at := 0; at < n; at += blockWidth {
		DecodeBF16(x.floats[at:min(at+blockWidth, n)], w.raw[2*at/blockWidth*w.cols:])
	}
	return x.floats
}

// encode is encode of the span.
func (w span) encode(x *Scratch, dst []byte, c Code, k blockScale) runError {
	switch {
	case w.rows > 0:
		return encodeBlock(dst, w.raw, w.rows, w.cols, k.factor, k.stored)
	case w.raw != nil:
		return encodeBF16(dst, w.raw, c, k.factor, k.stored)
	case w.codes != nil:
		if r, ok := x.recode(w, c, k); ok {
			return r.encode(dst)
		}
		return x.encodeCodes(dst, w.codes, w.scaling, c, k.factor, k.stored)
	}
	return encode(dst, w.floats, c, k.by, k.factor, k.stored)
}
