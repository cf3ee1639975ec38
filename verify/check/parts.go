package check

import (
	"slices"

	"github.com/glmconv/glmconv/internal/share"
	"github.com/glmconv/glmconv/quant"
)

// hashDiffers is the code of a file whose bytes are not those of the manifest.
const hashDiffers = "hash-mismatch"

// ownFiles are the files that this part hashes: a run of the manifest's, cut
// where bytes are even.
func (s *subject) ownFiles(files []quant.ManifestFile) []quant.ManifestFile {
	sizes := make([]int64, len(files))
	for i, f := range files {
		sizes[i] = f.Size
	}
	lo, hi := share.Cut(sizes, s.opts.Part, s.opts.Parts)
	return files[lo:hi]
}

// Join puts together the reports of all parts of one check, in the order of the
// parts: what it returns is what one run reports, but for Read, which is what all
// of them have read. Parts differ in which hashes they have compared and in
// nothing else.
func Join(parts []*Report) *Report {
	if len(parts) == 0 {
		return nil
	}
	differs := func(f Finding) bool { return f.Code == hashDiffers }
	base := parts[0]
	var all []Finding
	var hashed, read int64
	for _, p := range parts {
		if slices.ContainsFunc(p.Found, differs) {
			if len(all) == 0 {
				base = p // its cause is that of all
			}
			for _, f := range p.Found {
				if differs(f) {
					all = append(all, f)
				}
			}
		}
		hashed, read = hashed+p.Hashed, read+p.Read
	}
	r := *base
	r.Hashed, r.Read, r.Findings = hashed, read, nil
	for _, f := range base.Found {
		if !differs(f) {
			r.Findings = append(r.Findings, f)
			continue
		}
		r.Findings, all = append(r.Findings, all...), nil // in place of the first of them
	}
	r.finish()
	return &r
}
