package engine

import "slices"

// LacksKernel reports whether a release reads a part of a checkpoint and refuses
// it for want of a kernel.
func (r Release) LacksKernel(s *Subject) bool {
	return slices.ContainsFunc(s.quantized(), func(k kept) bool {
		return slices.ContainsFunc(r.spec.forms, func(f form) bool {
			return f.kernel && f.layout == s.Layout && (f.kind == 0 || f.kind == k.kind) && r.holds(f.during) && f.match(k.part)
		})
	})
}
