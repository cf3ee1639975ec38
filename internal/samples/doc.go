// Package samples shows what adding something touches. Each file of testdata is
// a documented diff against the tree as it is: a family, a format, a scheme with
// static activations, a release of an engine. A test applies it (as an overlay
// of the go command, nothing is written into the tree), builds everything, runs
// the test that the sample brings with it, and counts its Go files against the
// bounds of docs/design.md ("Where to add things").
//
// A sample is a txtar archive. A file that is not in the tree is added whole; of
// one that is, the archive has hunks: lines that begin with a space or a minus
// stand in the file one after the other, once, and lines with a plus come where
// they stand among them. "@@" parts hunks.
package samples
