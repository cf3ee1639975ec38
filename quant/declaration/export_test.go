package declaration

// Both reports what the two engines say of a name that the fast one may be
// asked; ok is false where there is no fast one.
func (p *Pattern) Both(name string) (fast, slow, ok bool) {
	if p.re == nil || p.net == nil || !printable(name) {
		return false, false, false
	}
	return p.re.MatchString(name), p.backtrack(name), true
}
