package grammar

import "fmt"

type kind uint8

const (
	isSet    kind = iota // one byte
	isMark               // one added token
	isSeq                // one after the other
	isChoice             // one of these
	isRepeat             // again and again
)

// Expr is a part of a grammar. It may be used in several places.
type Expr struct {
	kind   kind
	set    [4]uint64 // bytes
	mark   int       // token id
	list   []*Expr
	lo, hi int // of a repetition; hi < 0: without end
}

// Text is a text, byte by byte.
func Text(s string) *Expr {
	e := &Expr{kind: isSeq}
	for i := range len(s) {
		e.list = append(e.list, bytesOf([2]byte{s[i], s[i]}))
	}
	return e
}

// Mark is an added token of the vocabulary.
func Mark(id int) *Expr { return &Expr{kind: isMark, mark: id} }

// Seq is its parts, one after the other.
func Seq(list ...*Expr) *Expr { return &Expr{kind: isSeq, list: list} }

// Or is one of its parts.
func Or(list ...*Expr) *Expr { return &Expr{kind: isChoice, list: list} }

// Repeat is e lo to hi times; hi < 0 is without end.
func Repeat(e *Expr, lo, hi int) *Expr {
	return &Expr{kind: isRepeat, list: []*Expr{e}, lo: lo, hi: hi}
}

func maybe(e *Expr) *Expr { return Repeat(e, 0, 1) }

// bytesOf is one byte of some ranges.
func bytesOf(ranges ...[2]byte) *Expr {
	e := &Expr{kind: isSet}
	for _, r := range ranges {
		for c := int(r[0]); c <= int(r[1]); c++ {
			e.set[c/64] |= 1 << (c % 64)
		}
	}
	return e
}

func without(e *Expr, s string) *Expr {
	for i := range len(s) {
		e.set[s[i]/64] &^= 1 << (s[i] % 64)
	}
	return e
}

// runes is one character: of ASCII what ascii allows, and every other one, in
// well-formed UTF-8.
func runes(ascii *Expr) *Expr {
	tail := bytesOf([2]byte{0x80, 0xbf})
	return Or(ascii,
		Seq(bytesOf([2]byte{0xc2, 0xdf}), tail),
		Seq(bytesOf([2]byte{0xe0, 0xe0}), bytesOf([2]byte{0xa0, 0xbf}), tail),
		Seq(bytesOf([2]byte{0xe1, 0xec}, [2]byte{0xee, 0xef}), tail, tail),
		Seq(bytesOf([2]byte{0xed, 0xed}), bytesOf([2]byte{0x80, 0x9f}), tail),
		Seq(bytesOf([2]byte{0xf0, 0xf0}), bytesOf([2]byte{0x90, 0xbf}), tail, tail),
		Seq(bytesOf([2]byte{0xf1, 0xf3}), tail, tail, tail),
		Seq(bytesOf([2]byte{0xf4, 0xf4}), bytesOf([2]byte{0x80, 0x8f}), tail, tail))
}

// Plain is lo to hi characters of plain text in which no end tag can be read; hi
// < 0 is without end.
func Plain(lo, hi int) *Expr {
	any := func(but string) *Expr {
		return without(bytesOf([2]byte{'\t', '\n'}, [2]byte{' ', 0x7e}), but)
	}
	return Repeat(Or(runes(any("<")), Seq(Text("<"), runes(any("</")))), lo, hi)
}

// JSONObject is any JSON object.
func JSONObject() *Expr { return behindLine(newJSON().object) }

// behindLine lets a line end in front, as it stands behind reasoning.
func behindLine(e *Expr) *Expr { return Seq(maybe(Text("\n")), e) }

// Error is a schema that cannot be kept.
type Error struct{ Keyword, Why string }

func (e *Error) Error() string {
	if e.Why == "" {
		return fmt.Sprintf("the schema's keyword %q is not supported", e.Keyword)
	}
	return fmt.Sprintf("the schema's %q: %s", e.Keyword, e.Why)
}
