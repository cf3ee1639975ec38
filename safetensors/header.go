package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"

	upstream "github.com/nlpodyssey/safetensors"
)

// The limits on what a header may hold. The first is the format's; the others
// are ours: no real checkpoint comes near them.
const (
	MaxHeaderSize = 100_000_000 // bytes of JSON
	MaxTensors    = 1_000_000   // in one file
	MaxNameLength = 4096        // bytes of a tensor's name
	MaxRank       = 8           // dimensions of a tensor
)

const (
	lengthSize  = 8 // the little-endian length before the JSON
	metadataKey = "__metadata__"
)

// header is a checked header. The tensors are in file order and fill the
// bytes from dataStart to the end of the file without hole or overlap.
type header struct {
	tensors   []Info
	metadata  map[string]string
	dataStart int64
}

// fault builds errors about one file.
type fault string

func (path fault) at(kind error, tensor string, off int64, format string, args ...any) *Error {
	return &Error{Kind: kind, File: string(path), Tensor: tensor, Offset: off, Reason: fmt.Sprintf(format, args...)}
}

func (path fault) io(err error) *Error {
	return &Error{Kind: ErrIO, File: string(path), Offset: -1, Reason: "cannot be read", Err: err}
}

const hintDownload = "the download is incomplete; fetch this file again"

// readHeader reads and checks the header of a file of the given size. path
// stands in errors, base becomes Info.File.
func readHeader(r io.ReaderAt, size int64, path, base string) (*header, error) {
	raw, err := readHeaderBytes(r, size, path)
	if err != nil {
		return nil, err
	}
	return parseHeader(raw, size, path, base)
}

// readHeaderBytes returns the JSON with its padding. Its length is checked
// against the file's size before anything is allocated.
func readHeaderBytes(r io.ReaderAt, size int64, path string) ([]byte, error) {
	at := fault(path).at
	if size < lengthSize {
		e := at(ErrHeaderTooSmall, "", -1, "the file has %s bytes, a safetensors file at least %d", commas(size), lengthSize+2)
		e.Advice = hintDownload
		return nil, e
	}
	var length [lengthSize]byte
	if _, err := r.ReadAt(length[:], 0); err != nil && err != io.EOF {
		return nil, fault(path).io(err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	switch {
	case n > MaxHeaderSize:
		e := at(ErrHeaderTooLarge, "", 0, "the header claims %s bytes, the format allows %s", commas(n), commas(MaxHeaderSize))
		e.Advice = whatInstead(r)
		return nil, e
	case n < 2:
		return nil, at(ErrHeaderTooSmall, "", 0, "the header claims %d bytes, the smallest is {}", n)
	case int64(n) > size-lengthSize:
		e := at(ErrTruncated, "", size, "the header ends at byte %s, the file at %s", commas(n+lengthSize), commas(size))
		e.Advice = cmp.Or(begins(r, sure), hintDownload)
		return nil, e
	}
	raw := make([]byte, n)
	if _, err := r.ReadAt(raw, lengthSize); err != nil && err != io.EOF {
		return nil, fault(path).io(err)
	}
	return raw, nil
}

// parseHeader checks the JSON strictly (scan.go), has it decoded by
// nlpodyssey/safetensors and checks the layout of the data.
func parseHeader(raw []byte, size int64, path, base string) (*header, error) {
	if err := checkText(raw, path); err != nil {
		return nil, err
	}
	scanned, err := scanHeader(raw, path)
	if err != nil {
		return nil, err
	}
	h := &header{dataStart: lengthSize + int64(len(raw))}
	if h.metadata, err = scanned.decodeMetadata(raw, path); err != nil {
		return nil, err
	}
	if h.tensors, err = scanned.decodeTensors(raw, path, base, h.dataStart); err != nil {
		return nil, err
	}
	slices.SortStableFunc(h.tensors, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Size, b.Size))
	})
	if err := h.checkLayout(size, path); err != nil {
		return nil, err
	}
	return h, nil
}

// checkText checks what concerns the bytes before their meaning: the first
// byte, the padding, UTF-8 and the grammar of JSON.
func checkText(raw []byte, path string) error {
	at := fault(path).at
	if raw[0] != '{' {
		return at(ErrHeader, "", lengthSize, "the header begins with byte 0x%02x instead of {", raw[0])
	}
	text := bytes.TrimRight(raw, " ")
	if c := text[len(text)-1]; c != '}' {
		return at(ErrHeader, "", lengthSize+int64(len(text))-1, "the header ends with byte 0x%02x; only } and spaces after it may stand there", c)
	}
	if i := invalidUTF8(raw); i >= 0 {
		return at(ErrInvalidUTF8, "", lengthSize+int64(i), "the header is not valid UTF-8")
	}
	if !json.Valid(raw) {
		e := at(ErrHeader, "", lengthSize, "the header is not JSON")
		e.Err = json.Unmarshal(raw, new(json.RawMessage)) // says why and where
		if syntax := (*json.SyntaxError)(nil); errors.As(e.Err, &syntax) {
			e.Offset += max(syntax.Offset-1, 0)
		}
		return e
	}
	if i := loneSurrogate(raw); i >= 0 {
		return at(ErrInvalidUTF8, "", lengthSize+int64(i), "the header has half of a surrogate pair")
	}
	return nil
}

// invalidUTF8 returns the place of the first invalid byte, or -1.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// decodeBatch is how many tensors upstream decodes at a time. It makes a
// generic map of each, a kilobyte a tensor, which must not pile up.
const decodeBatch = 256

// decodeTensors hands the scanned tensors to upstream.Metadata, batch by
// batch, as a header of its own in which fields it does not know are left out
// and types it does not know are called U8. The true type is in our table.
// Sizes and offsets are checked here and in checkLayout, not by its
// ReadMetadata, which wants the whole file in memory.
func (s *scannedHeader) decodeTensors(raw []byte, path, base string, dataStart int64) ([]Info, error) {
	out := make([]Info, 0, len(s.tensors))
	var doc []byte
	for start := 0; start < len(s.tensors); start += decodeBatch {
		batch := s.tensors[start:min(start+decodeBatch, len(s.tensors))]
		doc = append(doc[:0], '{')
		for i, t := range batch {
			if i > 0 {
				doc = append(doc, ',')
			}
			doc = append(doc, t.key.Of(raw)...)
			doc = append(doc, `:{"dtype":"`...)
			doc = append(doc, upstreamDType(t.dtype)...)
			doc = append(doc, `","shape":`...)
			doc = append(doc, t.shape.Of(raw)...)
			doc = append(doc, `,"data_offsets":`...)
			doc = append(doc, t.offsets.Of(raw)...)
			doc = append(doc, '}')
		}
		doc = append(doc, '}')
		var decoded upstream.Metadata
		if err := json.Unmarshal(doc, &decoded); err != nil {
			// The scan has seen natural numbers only: one is beyond 64 bits.
			e := fault(path).at(ErrOverflow, "", -1, "a shape or offset does not fit in 64 bits")
			e.Err = err
			return nil, e
		}
		infos := decoded.Tensors()
		for _, t := range batch {
			info, ok := infos[t.name]
			if !ok {
				return nil, fault(path).at(ErrHeader, t.name, t.key.Start, "is not read back under its name")
			}
			row, err := t.info(info, path, base, dataStart)
			if err != nil {
				return nil, err
			}
			out = append(out, row)
		}
	}
	return out, nil
}

// upstreamDType is the type of upstream by which d is passed through.
func upstreamDType(d DType) string {
	if _, err := upstream.ParseDType(d.String()); err == nil {
		return d.String()
	}
	return upstream.U8.String()
}

// info checks a decoded tensor by itself: natural numbers in range, end not
// before start, length equal to shape times type.
func (t *scannedTensor) info(u *upstream.TensorInfo, path, base string, dataStart int64) (Info, error) {
	bad := func(kind error, format string, args ...any) (Info, error) {
		return Info{}, fault(path).at(kind, t.name, lengthSize+t.key.Start, format, args...)
	}
	begin, end := u.DataOffsets[0], u.DataOffsets[1]
	if end > uint64(math.MaxInt64-dataStart) || begin > end && begin > math.MaxInt64 {
		return bad(ErrOverflow, "has offsets %s to %s, beyond any file", commas(begin), commas(end))
	}
	if end < begin {
		return bad(ErrOffsets, "ends at data byte %s, before its start at %s", commas(end), commas(begin))
	}
	shape := make([]int64, len(u.Shape))
	elements := uint64(1)
	for i, d := range u.Shape {
		hi, lo := bits.Mul64(elements, d)
		if hi != 0 || d > math.MaxInt64 {
			return bad(ErrOverflow, "has shape %v, too many elements for 64 bits", u.Shape)
		}
		elements, shape[i] = lo, int64(d)
	}
	hi, total := bits.Mul64(elements, uint64(t.dtype.Bits()))
	if hi != 0 {
		return bad(ErrOverflow, "has shape %v, too many bits for 64 bits", u.Shape)
	}
	if total%8 != 0 {
		return bad(ErrShape, "of type %s and shape %v does not fill whole bytes", t.dtype, u.Shape)
	}
	if end-begin != total/8 {
		return bad(ErrShape, "of type %s and shape %v takes %s bytes, its offsets give %s",
			t.dtype, u.Shape, commas(total/8), commas(end-begin))
	}
	return Info{Name: t.name, DType: t.dtype, Shape: shape, File: base, Offset: dataStart + int64(begin), Size: int64(end - begin)}, nil
}

// checkLayout checks that the tensors, sorted by offset, cover the data
// section exactly.
func (h *header) checkLayout(size int64, path string) error {
	at := fault(path).at
	next := h.dataStart
	for i, t := range h.tensors {
		switch {
		case t.Offset > next:
			return at(ErrOffsets, t.Name, t.Offset, "leaves a hole before it: %s bytes from byte %s belong to no tensor",
				commas(t.Offset-next), commas(next))
		case t.Offset < next:
			return at(ErrOffsets, t.Name, t.Offset, "starts at byte %s, inside of tensor %s which ends at %s",
				commas(t.Offset), printable(h.tensors[i-1].Name), commas(next))
		}
		next += t.Size
	}
	if next == size {
		return nil
	}
	if next < size {
		return at(ErrOffsets, "", next, "%s bytes follow the last tensor, which ends at byte %s", commas(size-next), commas(next))
	}
	for _, t := range h.tensors {
		if end := t.Offset + t.Size; end > size {
			e := at(ErrTruncated, t.Name, size, "ends at byte %s, the file at %s", commas(end), commas(size))
			e.Advice = fmt.Sprintf("%s (expected size %s)", hintDownload, commas(next))
			return e
		}
	}
	return nil
}
