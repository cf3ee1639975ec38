package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"io"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/verify/check"
	"github.com/glmconv/glmconv/verify/diff"
)

// partialMagic begins the file of a partial: a name and the version of the form.
// What follows is the content as package gob writes it, and the SHA-256 of all
// that.
const partialMagic = "glmconv partial verification 1\n"

// maxPartial is the size up to which a file is taken for a partial's, in bytes.
const maxPartial = 4 << 30

// WriteTo writes the file of a partial.
func (p *Partial) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	b.WriteString(partialMagic)
	if err := gob.NewEncoder(&b).Encode(&p.content); err != nil {
		return 0, err
	}
	sum := sha256.Sum256(b.Bytes())
	b.Write(sum[:])
	return b.WriteTo(w)
}

// ReadPartial reads a file that WriteTo has written, by a tool of that version.
// Every byte of it counts: a file that differs in one is refused.
func ReadPartial(name, version string) (*Partial, error) {
	raw, err := fsx.ReadRegular(name, maxPartial)
	if err != nil {
		return nil, err
	}
	p, why := parsePartial(raw)
	switch {
	case why != "":
		return nil, &Error{name, why, "run that part again"}
	case p.Version != version:
		return nil, &Error{name, "was made by version " + p.Version + ", this is " + version, "merge with the version that made the parts"}
	}
	p.name = name
	return p, nil
}

// parsePartial reads a partial, or says why it is none.
func parsePartial(raw []byte) (p *Partial, why string) {
	if !bytes.HasPrefix(raw, []byte(partialMagic)) {
		return nil, "is no file of glmconv verify --partial"
	}
	body := len(raw) - sha256.Size
	if body < len(partialMagic) {
		return nil, "ends too early"
	}
	if sum := sha256.Sum256(raw[:body]); !bytes.Equal(sum[:], raw[body:]) {
		return nil, "is damaged: its checksum is another one"
	}
	p = &Partial{}
	r := bytes.NewReader(raw[len(partialMagic):body])
	if err := gob.NewDecoder(r).Decode(&p.content); err != nil || r.Len() > 0 {
		return nil, "cannot be read though its checksum is right: it is of another version"
	}
	if !p.valid() {
		return nil, "contradicts itself"
	}
	return p, ""
}

// valid reports whether the content is such that a verdict can be made of it.
func (p *Partial) valid() bool {
	s, at := &p.Observed, p.content.Part
	if at.Index < 1 || at.Index > at.Count || s.Evidence == nil {
		return false
	}
	if s.Evidence.Check == nil {
		s.Evidence.Check = &check.Report{}
	}
	if d := s.Evidence.Diff; d != nil && !sided(d) {
		return false
	}
	if s.Narrow == nil {
		s.Narrow = map[string]bool{}
	}
	return !slices.ContainsFunc(s.Forward, func(f *forward) bool { return !f.valid() })
}

// valid reports whether the batches are those of the sequences.
func (f *forward) valid() bool {
	if f == nil {
		return false
	}
	for i, at := range f.Starts {
		if at < 0 || at > len(f.Lengths) || i > 0 && at <= f.Starts[i-1] {
			return false
		}
	}
	return f.Stage == opening || len(f.Prefixes) == len(f.Starts)+1
}

// sided reports whether every tensor of a comparison says how the sides that have
// it store it.
func sided(d *diff.Report) bool {
	both := func(x diff.Tensor) bool { return x.A != nil && x.B != nil }
	lacks := func(has func(diff.Tensor) bool) func(diff.Tensor) bool {
		return func(x diff.Tensor) bool { return !has(x) }
	}
	return !slices.ContainsFunc(d.Changed, lacks(both)) && !slices.ContainsFunc(d.Retyped, lacks(both)) &&
		!slices.ContainsFunc(d.Removed, func(x diff.Tensor) bool { return x.A == nil }) &&
		!slices.ContainsFunc(d.Added, func(x diff.Tensor) bool { return x.B == nil })
}
