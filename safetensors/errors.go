package safetensors

import (
	"errors"
	"strconv"
	"strings"
)

// The kinds of failure. Every error of this package that concerns a file is
// an [*Error] that matches exactly one of them by errors.Is.
var (
	ErrHeader         = errors.New("invalid header")          // not the JSON that the format wants
	ErrHeaderTooLarge = errors.New("header too large")        // over 100,000,000 bytes, too many tensors
	ErrHeaderTooSmall = errors.New("header too small")        // file shorter than the length field, header empty
	ErrInvalidUTF8    = errors.New("invalid UTF-8")           // in a header or an index, also as lone \u surrogates
	ErrDuplicate      = errors.New("duplicate name")          // key twice in a JSON object, tensor in two shards
	ErrDType          = errors.New("invalid dtype")           // unknown, or not fit for what is asked
	ErrShape          = errors.New("invalid shape")           // not natural numbers, or at odds with the data's length
	ErrOffsets        = errors.New("invalid offsets")         // overlap, hole, trailing bytes, end before start
	ErrTruncated      = errors.New("truncated file")          // the file ends before the header or a tensor does
	ErrOverflow       = errors.New("number out of range")     // a shape or offset beyond 64 bits
	ErrIndex          = errors.New("invalid index")           // index JSON, or index and headers disagree
	ErrPath           = errors.New("path not allowed")        // leaves the directory, by name or by symlink
	ErrNotFound       = errors.New("not found")               // no checkpoint, shard or tensor
	ErrRange          = errors.New("range outside of tensor") // caller asked for rows or bytes that are not there
	ErrSpec           = errors.New("invalid output tensor")   // what is to be written cannot be
	ErrChanged        = errors.New("file changed")            // on disk, between reading the header and the data
	ErrIO             = errors.New("i/o error")               // the operating system says no; Err has its words
)

// Error is what is wrong with a file. Reason is a sentence about File, or
// about Tensor if that is set; Advice, if there is some, says what to do.
//
//	model-00017-of-00093.safetensors: tensor a.weight ends at byte 5,368,709,312, the file at 5,100,273,664
type Error struct {
	Kind   error  // one of the sentinels above
	File   string // path as opened
	Tensor string // "" if no single tensor is concerned
	Offset int64  // byte in the file where it shows, -1 if there is none
	Reason string
	Advice string
	Err    error // underlying error, or nil
}

// Error returns the message without the hint.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ": ")
	}
	if e.Tensor != "" {
		b.WriteString("tensor " + printable(e.Tensor) + " ")
	}
	b.WriteString(e.Reason)
	if e.Offset >= 0 && !strings.Contains(e.Reason, commas(e.Offset)) {
		b.WriteString(" (at byte " + commas(e.Offset) + ")")
	}
	if e.Err != nil && e.Kind != ErrNotFound {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Hint says what the user can do; "" when there is nothing to say.
func (e *Error) Hint() string { return e.Advice }

// Unwrap returns the kind and the underlying error.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// printable quotes a name that would garble a terminal or a log.
func printable(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` || len(name) > 300 || name == "" {
		if len(q) > 300 {
			q = q[:300] + `…"`
		}
		return q
	}
	return name
}

// commas formats n with thousands separators: 5,368,709,312.
func commas[T int | int64 | uint64](n T) string {
	s := strconv.FormatUint(uint64(n), 10)
	sign := ""
	if n < 0 {
		s, sign = strconv.FormatUint(-uint64(n), 10), "-"
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
