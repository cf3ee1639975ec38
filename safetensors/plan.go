package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/glmconv/glmconv/internal/fsx"
)

// FilePlan is a file that is fully decided before its first byte of data: its
// header is final and every tensor has its place. Names and shapes are asked for
// when they are needed: those of the largest models take more memory than all else
// that is known of them.
type FilePlan struct {
	Name string // base name
	Size int64  // bytes of the whole file

	specs     iter.Seq[Spec]
	count     int
	metadata  map[string]string
	dataStart int64 // bytes of the header
}

// Header returns the length field and the JSON, padded with spaces to a multiple
// of 8 bytes. It is made anew by each call.
func (p *FilePlan) Header() []byte {
	b, _ := p.encodeHeader(make([]byte, 0, p.dataStart)) // what can fail has failed in PlanFile
	return b
}

// HeaderSize returns the bytes of the header.
func (p *FilePlan) HeaderSize() int64 { return p.dataStart }

// Len returns how many tensors the file has.
func (p *FilePlan) Len() int { return p.count }

// Tensors returns the tensors in the order of the specs, with absolute offsets.
func (p *FilePlan) Tensors() []Info {
	out := make([]Info, 0, p.count)
	at := p.dataStart
	for s := range p.specs {
		size := s.Bytes()
		out = append(out, Info{Name: s.Name, DType: s.DType, Shape: s.Shape, File: p.Name, Offset: at, Size: size})
		at += size
	}
	return out
}

// PlanFile lays out a file with the given tensors in the given order. Nil
// metadata means {"format": "pt"}, which older readers insist on; an empty map
// means none. The same arguments give the same bytes.
//
// It refuses, with errors of kind ErrSpec: bad file names, names that are
// empty, too long, not UTF-8 or "__metadata__"; shapes that are negative, of
// more than MaxRank dimensions, too large or, with sub-byte types, do not fill
// whole bytes; and a tensor that would not start at a multiple of its element
// size, since readers that map the file need that: order the tensors by
// falling element size to be safe. Duplicates are ErrDuplicate, a header that
// no reader would take ErrHeaderTooLarge.
func PlanFile(name string, specs []Spec, metadata map[string]string) (*FilePlan, error) {
	if len(specs) > MaxTensors {
		return nil, fault(name).at(ErrHeaderTooLarge, "", -1, "%s tensors are planned, at most %s fit", commas(len(specs)), commas(MaxTensors))
	}
	own := make([]Spec, len(specs))
	for i, s := range specs {
		s.Shape = slices.Clone(s.Shape)
		own[i] = s
	}
	return PlanSpecs(name, slices.Values(own), metadata)
}

// PlanSpecs is PlanFile for tensors that are made when they are asked for: specs
// is gone through now and each time that names or places of tensors are needed,
// and must give the same ones each time.
func PlanSpecs(name string, specs iter.Seq[Spec], metadata map[string]string) (*FilePlan, error) {
	at := fault(name).at
	if name == "" || strings.ContainsAny(name, `/\`) || fsx.IsTemp(name) {
		return nil, at(ErrSpec, "", -1, "%q is not a name for a file", name)
	}
	if metadata == nil {
		metadata = map[string]string{"format": "pt"}
	}
	p := &FilePlan{Name: name, specs: specs, metadata: maps.Clone(metadata)}
	seen := map[string]struct{}{}
	next := int64(0)
	for s := range specs {
		if p.count++; p.count > MaxTensors {
			return nil, at(ErrHeaderTooLarge, "", -1, "more than %s tensors are planned, which no reader takes", commas(MaxTensors))
		}
		size, err := checkSpec(s, next, name)
		if err != nil {
			return nil, err
		}
		if _, dup := seen[s.Name]; dup {
			return nil, at(ErrDuplicate, s.Name, -1, "is planned twice")
		}
		seen[s.Name] = struct{}{}
		next += size
	}
	scratch := headers.Get().(*[]byte)
	defer headers.Put(scratch)
	header, err := p.encodeHeader((*scratch)[:0])
	if err != nil {
		return nil, err
	}
	*scratch, p.dataStart = header, int64(len(header))
	p.Size = p.dataStart + next
	return p, nil
}

// checkSpec returns the size of a tensor that is to start at data byte start.
func checkSpec(s Spec, start int64, file string) (int64, error) {
	bad := func(format string, args ...any) (int64, error) {
		return 0, fault(file).at(ErrSpec, s.Name, -1, format, args...)
	}
	switch {
	case s.Name == "" || s.Name == metadataKey:
		return bad("has a name that tensors must not have")
	case len(s.Name) > MaxNameLength:
		return 0, fault(file).at(ErrSpec, s.Name[:64], -1, "… has a name of %s bytes, more than %s", commas(len(s.Name)), commas(MaxNameLength))
	case !utf8.ValidString(s.Name):
		return bad("has a name that is not valid UTF-8")
	case s.DType.Bits() == 0:
		return bad("has no dtype")
	case len(s.Shape) > MaxRank:
		return bad("has %d dimensions, more than %d", len(s.Shape), MaxRank)
	}
	size := s.Bytes()
	if size < 0 || size == 0 && !multiplies(s.Shape) {
		return bad("has shape %v, impossible for type %s", s.Shape, s.DType)
	}
	const limit = 1 << 57
	if start > limit-size {
		return bad("makes the file larger than %s bytes", commas(int64(limit)))
	}
	if align := int64(s.DType.Bits() / 8); align > 1 && start%align != 0 {
		return bad("would start at data byte %s, not a multiple of its element size %d", commas(start), align)
	}
	return size, nil
}

// multiplies reports whether readers, who multiply from the left in 64 bits,
// get through a shape with a zero in it.
func multiplies(shape []int64) bool {
	return DataSize(U8, slices.DeleteFunc(slices.Clone(shape), func(d int64) bool { return d == 0 })) >= 0
}

// headers are buffers for headers whose length alone is asked for.
var headers = sync.Pool{New: func() any { return new([]byte) }}

// encodeHeader appends the header to b, which is empty. The JSON is written by hand: encoding/json
// orders keys of a map by name, while headers keep the order of the data, with
// __metadata__ first.
func (p *FilePlan) encodeHeader(b []byte) ([]byte, error) {
	metadata, file := p.metadata, p.Name
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, '{')
	if len(metadata) > 0 {
		b = append(b, `"`+metadataKey+`":{`...)
		for i, key := range slices.Sorted(maps.Keys(metadata)) {
			if !utf8.ValidString(key) || !utf8.ValidString(metadata[key]) {
				return nil, fault(file).at(ErrSpec, "", -1, "metadata %q is not valid UTF-8", key)
			}
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendQuoted(b, key), ':')
			b = appendQuoted(b, metadata[key])
		}
		b = append(b, '}')
	}
	first, at := len(metadata) == 0, int64(0)
	for t := range p.specs {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendQuoted(b, t.Name)
		b = append(b, `:{"dtype":"`...)
		b = append(b, t.DType.String()...)
		b = append(b, `","shape":[`...)
		for j, d := range t.Shape {
			if j > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, d, 10)
		}
		b = append(b, `],"data_offsets":[`...)
		b = strconv.AppendInt(b, at, 10)
		b = append(b, ',')
		at += t.Bytes()
		b = strconv.AppendInt(b, at, 10)
		b = append(b, "]}"...)
	}
	b = append(b, '}')
	if pad := -len(b) & 7; pad > 0 {
		b = append(b, "       "[:pad]...)
	}
	n := len(b) - lengthSize
	if n > MaxHeaderSize {
		return nil, fault(file).at(ErrHeaderTooLarge, "", -1, "the header would take %s bytes, the format allows %s", commas(n), commas(MaxHeaderSize))
	}
	binary.LittleEndian.PutUint64(b, uint64(n))
	return b, nil
}

// appendQuoted appends a JSON string without the escapes that are for HTML.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return appendEscaped(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendEscaped(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string into memory cannot fail
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}
