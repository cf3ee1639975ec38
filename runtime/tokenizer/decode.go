package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Decode returns the text of ids, special tokens included. Ids that stand for
// nothing (padding rows of the embedding) are left out. Bytes that are not
// UTF-8 become U+FFFD, one for each maximal part of a character.
func (t *Tokenizer) Decode(ids []int) string { return t.decode(ids, false) }

// DecodeSkipSpecial is Decode without the tokens that are marked as special.
func (t *Tokenizer) DecodeSkipSpecial(ids []int) string { return t.decode(ids, true) }

func (t *Tokenizer) decode(ids []int, skip bool) string {
	d := Decoder{t: t, SkipSpecial: skip}
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(d.Add(id))
	}
	b.WriteString(d.Flush())
	return b.String()
}

// Decoder decodes a stream of ids. It holds back the bytes of a character that
// is not complete yet, so that its output is valid UTF-8 at every moment, and
// all its output together is what Decode gives.
type Decoder struct {
	SkipSpecial bool // leave out tokens marked as special

	t       *Tokenizer
	pending []byte
}

// NewDecoder returns a Decoder at the start of a stream.
func (t *Tokenizer) NewDecoder() *Decoder { return &Decoder{t: t} }

// Add returns the text that id completes, "" if it completes none.
func (d *Decoder) Add(id int) string {
	if d.SkipSpecial && d.t.special[id] {
		return ""
	}
	d.pending = append(d.pending, d.t.texts[id]...)
	return d.take(false)
}

// Flush ends the stream: an unfinished character becomes U+FFFD.
func (d *Decoder) Flush() string { return d.take(true) }

// take returns the pending bytes as text, up to an unfinished character unless
// it is the end of the stream.
func (d *Decoder) take(end bool) string {
	if utf8.Valid(d.pending) {
		s := string(d.pending)
		d.pending = d.pending[:0]
		return s
	}
	var b strings.Builder
	i := 0
	for i < len(d.pending) {
		n, valid, cut := sequence(d.pending[i:])
		if cut && !end {
			break
		}
		if valid {
			b.Write(d.pending[i : i+n])
		} else {
			b.WriteRune(utf8.RuneError)
		}
		i += n
	}
	d.pending = append(d.pending[:0], d.pending[i:]...)
	return b.String()
}

// sequence measures the character at the start of p (not empty). If it is not
// valid, n is the length of its maximal part that could start one (Unicode
// standard 3.9, "maximal subpart"), at least 1; cut means that p ends inside it.
func sequence(p []byte) (n int, valid, cut bool) {
	lo, hi, size := byte(0x80), byte(0xbf), 0
	switch c := p[0]; {
	case c < 0x80:
		return 1, true, false
	case c >= 0xc2 && c <= 0xdf:
		size = 2
	case c >= 0xe0 && c <= 0xef:
		size = 3
		if c == 0xe0 {
			lo = 0xa0
		} else if c == 0xed {
			hi = 0x9f // no surrogates
		}
	case c >= 0xf0 && c <= 0xf4:
		size = 4
		if c == 0xf0 {
			lo = 0x90
		} else if c == 0xf4 {
			hi = 0x8f
		}
	default:
		return 1, false, false
	}
	for n = 1; n < size; n++ {
		if n == len(p) {
			return n, false, true
		}
		if p[n] < lo || p[n] > hi {
			return n, false, false
		}
		lo, hi = 0x80, 0xbf
	}
	return size, true, false
}
