package safetensors

import (
	"bytes"
	"encoding/json"
	"strconv"

	upstream "github.com/nlpodyssey/safetensors"

	"github.com/glmconv/glmconv/internal/jsonwalk"
)

// What a header may hold beside tensors, so that a hostile one of 100 MB
// cannot fill the memory.
const (
	maxUnknownFields = 16
	maxMetadata      = 100_000
)

// scannedTensor is a tensor whose keys are known to be right; the numbers are
// not decoded yet but known to be arrays of natural numbers.
type scannedTensor struct {
	name                string
	dtype               DType
	key, shape, offsets jsonwalk.Span
}

type scannedHeader struct {
	tensors  []scannedTensor
	metadata jsonwalk.Span // empty if there is none
}

// scanHeader walks over a header that is valid JSON and valid UTF-8 and checks
// what encoding/json, and with it upstream, lets pass: a key that occurs
// twice, on either level, and a __metadata__ that is not string to string. It
// also checks names and types of fields, so that errors can say which tensor.
// Fields other than dtype, shape and data_offsets are ignored, as the
// reference does.
func scanHeader(raw []byte, path string) (*scannedHeader, error) {
	s := &scanner{Cursor: jsonwalk.New(raw), path: path}
	out := &scannedHeader{}
	names := map[string]struct{}{}
	if err := s.object("", "the header"); err != nil {
		return nil, err
	}
	for s.More() {
		name, key := s.Key()
		if _, dup := names[name]; dup {
			return nil, s.bad(ErrDuplicate, name, key, "is declared twice")
		}
		names[name] = struct{}{}
		if name == metadataKey {
			meta, err := s.metadata(key)
			if err != nil {
				return nil, err
			}
			out.metadata = meta
			continue
		}
		if len(name) > MaxNameLength {
			return nil, s.bad(ErrHeader, name[:64], key, "… has a name of %s bytes, more than %s", commas(len(name)), commas(MaxNameLength))
		}
		if len(out.tensors) == MaxTensors {
			return nil, s.bad(ErrHeaderTooLarge, "", key, "the header lists more than %s tensors", commas(MaxTensors))
		}
		t, err := s.tensor(name, key)
		if err != nil {
			return nil, err
		}
		out.tensors = append(out.tensors, t)
	}
	return out, nil
}

// scanner reads a header.
type scanner struct {
	jsonwalk.Cursor
	path string
}

func (s *scanner) bad(kind error, tensor string, where jsonwalk.Span, format string, args ...any) *Error {
	return fault(s.path).at(kind, tensor, lengthSize+where.Start, format, args...)
}

// object enters an object.
func (s *scanner) object(tensor, what string) error {
	if end, ok := s.Open(); !ok {
		return s.bad(ErrHeader, tensor, jsonwalk.Span{Start: end, End: end}, "%s is not a JSON object", what)
	}
	return nil
}

func (s *scanner) tensor(name string, key jsonwalk.Span) (t scannedTensor, err error) {
	t = scannedTensor{name: name, key: key}
	if err := s.object(name, "has an entry that"); err != nil {
		return t, err
	}
	var hasDType, hasShape, hasOffsets bool
	var others map[string]bool
	for s.More() {
		field, at := s.Key()
		value := s.Value()
		text := value.Of(s.Raw())
		dup := false
		switch field {
		case "dtype":
			dup, hasDType = hasDType, true
			name, ok := jsonwalk.Unquote(text)
			if t.dtype, _ = ParseDType(name); !ok || t.dtype == Invalid {
				return t, s.bad(ErrDType, t.name, value, "has unknown dtype %s", clip(text))
			}
		case "shape":
			dup, hasShape, t.shape = hasShape, true, value
			n, ok := naturals(text)
			if !ok {
				return t, s.bad(ErrShape, name, value, "has shape %s, not a list of natural numbers", clip(text))
			}
			if n > MaxRank {
				return t, s.bad(ErrShape, name, value, "has %s dimensions, more than %d", commas(n), MaxRank)
			}
		case "data_offsets":
			dup, hasOffsets, t.offsets = hasOffsets, true, value
			if n, ok := naturals(text); !ok || n != 2 {
				return t, s.bad(ErrOffsets, name, value, "has data_offsets %s, not two natural numbers", clip(text))
			}
		default:
			if dup = others[field]; others == nil {
				others = map[string]bool{}
			}
			if others[field] = true; len(others) > maxUnknownFields {
				return t, s.bad(ErrHeader, name, at, "has more than %d unknown fields", maxUnknownFields)
			}
		}
		if dup {
			return t, s.bad(ErrDuplicate, name, at, "has the key %s twice", clip([]byte(field)))
		}
	}
	for _, f := range []struct {
		has  bool
		name string
	}{{hasDType, "dtype"}, {hasShape, "shape"}, {hasOffsets, "data_offsets"}} {
		if !f.has {
			return t, s.bad(ErrHeader, name, key, "has no %s", f.name)
		}
	}
	return t, nil
}

// metadata checks __metadata__: null, or an object of strings.
func (s *scanner) metadata(key jsonwalk.Span) (jsonwalk.Span, error) {
	whole := s.Value()
	text := whole.Of(s.Raw())
	if string(text) == "null" {
		return jsonwalk.Span{}, nil
	}
	if text[0] != '{' {
		return jsonwalk.Span{}, s.bad(ErrHeader, "", key, "__metadata__ is not a JSON object")
	}
	inner := &scanner{Cursor: jsonwalk.New(text), path: s.path}
	if err := inner.object("", metadataKey); err != nil {
		return jsonwalk.Span{}, err
	}
	seen := map[string]bool{}
	for inner.More() {
		name, at := inner.Key()
		at.Start += whole.Start
		if seen[name] {
			return jsonwalk.Span{}, s.bad(ErrDuplicate, "", at, "__metadata__ has the key %s twice", clip([]byte(name)))
		}
		if seen[name] = true; len(seen) > maxMetadata {
			return jsonwalk.Span{}, s.bad(ErrHeaderTooLarge, "", at, "__metadata__ has more than %s entries", commas(maxMetadata))
		}
		if inner.Value().Of(text)[0] != '"' {
			return jsonwalk.Span{}, s.bad(ErrHeader, "", at, "__metadata__ entry %s is not a string", clip([]byte(name)))
		}
	}
	return whole, nil
}

// decodeMetadata lets upstream decode the checked __metadata__.
func (s *scannedHeader) decodeMetadata(raw []byte, path string) (map[string]string, error) {
	if s.metadata == (jsonwalk.Span{}) {
		return nil, nil
	}
	doc := append([]byte(`{"`+metadataKey+`":`), s.metadata.Of(raw)...)
	var m upstream.Metadata
	if err := json.Unmarshal(append(doc, '}'), &m); err != nil {
		e := fault(path).at(ErrHeader, "", lengthSize+s.metadata.Start, "__metadata__ cannot be decoded")
		e.Err = err
		return nil, e
	}
	return m.Metadata(), nil
}

// naturals reports whether a valid JSON value is a flat list of natural
// numbers without sign, fraction or exponent, and how many there are.
func naturals(value []byte) (n int, ok bool) {
	if value[0] != '[' {
		return 0, false
	}
	for i, c := range value[1 : len(value)-1] {
		switch {
		case c >= '0' && c <= '9':
			if prev := value[i]; prev < '0' || prev > '9' {
				n++
			}
		case c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r':
		default:
			return 0, false
		}
	}
	return n, true
}

// loneSurrogate returns the place of a \u escape that is half of a surrogate
// pair, or -1. encoding/json replaces such halves by U+FFFD, so that two names
// could become one.
func loneSurrogate(raw []byte) int {
	high := -1 // place of a high half whose low half must follow directly
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			if high >= 0 {
				return high
			}
			next := bytes.IndexByte(raw[i:], '\\')
			if next < 0 {
				return -1
			}
			i += next
			continue
		}
		if raw[i+1] != 'u' {
			if high >= 0 {
				return high
			}
			i += 2
			continue
		}
		code, _ := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
		isHigh, isLow := code>>10 == 0xd800>>10, code>>10 == 0xdc00>>10
		switch {
		case high >= 0 && !isLow:
			return high
		case high < 0 && isLow:
			return i
		case isHigh:
			high = i
		default:
			high = -1
		}
		i += 6
	}
	return high
}

// clip shortens text of the file for a message.
func clip(text []byte) string {
	const limit = 60
	if len(text) > limit {
		return strconv.QuoteToGraphic(string(text[:limit])) + "…"
	}
	if q := strconv.QuoteToGraphic(string(text)); len(q) != len(text)+2 && len(text) > 0 && text[0] != '"' {
		return q
	}
	return string(text)
}
