// Package mutate damages good checkpoints, each time in one way that has
// happened to somebody, so that tests can tell whether a verifier sees it.
//
//	for _, m := range mutate.All() {
//		applies, err := m.Apply(dir) // edits dir in place
//		…
//	}
//
// A mutation imitates a faulty converter, not a broken disk: index, sizes and
// the manifest's hashes are made to fit the damaged files again, so that no
// checksum gives the damage away. Only truncation and zeroed tails leave the
// manifest as it was, as a copy that went wrong would.
//
// Files are replaced, never written in place: dir may consist of hard links.
// A checkpoint is held in memory while it is edited.
package mutate
