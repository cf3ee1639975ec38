// Package source is what a checkpoint is read through where it is not a folder of
// the local disk: a repository of a hub, a bucket, a web server.
//
//	unmount := source.Mount(ctx, src) // src is a [Source]
//	defer unmount()
//	c, err := safetensors.OpenDir(src.Name())
//
// [Mount] gives a [Source] a name. From then on every function of this module
// that takes the name of a folder takes that one: no package above knows what an
// address or a request is. A folder that nothing is mounted for is one of the
// local disk, and reading it makes no network call.
//
// The listing is asked for once, when the source is mounted; sizes come from it
// before anything is allocated, and a file that is no longer what was listed is
// an error that matches [ErrChanged]. Reads end with the context of the mount.
//
// Errors are [*Error] and match one of the kinds ErrAddress … ErrChanged.
package source
