// Package outside tests glmconv as others use it. The folder testdata/story is a
// Go module of its own, which cannot import internal packages: it opens a
// checkpoint, describes, remaps, plans, converts, checks, compares, verifies and
// runs it with the documented calls alone, and looks for errors by errors.Is and
// errors.As. The test of this package builds and runs it.
package outside
