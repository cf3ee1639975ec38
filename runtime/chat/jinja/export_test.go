package jinja

// SetLimits lowers the bounds of renderings; the result restores them.
func SetLimits(steps, spent int) (restore func()) {
	a, b := maxSteps, maxSpent
	maxSteps, maxSpent = steps, spent
	return func() { maxSteps, maxSpent = a, b }
}
