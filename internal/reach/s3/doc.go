// Package s3 sends the requests of S3 that sources and results need, each once,
// signed, and reads the answers. Retries, time limits and what a person is told
// are the caller's.
//
// [New] makes a client of one bucket; [Environment] finds the keys as the tools of
// AWS do. [Client.List], [Client.Get] and [Client.Head] read; [Client.Put] and
// [Client.Delete] write whole objects; [Client.NewUpload], [Client.PutPart],
// [Client.Complete] and [Client.Abort] write in parts, and [Client.Uploads] and
// [Client.Parts] tell what of that is unfinished. What the store refuses is an
// [*Error].
//
// Signatures (version 4) are those of the AWS SDK's own signer. The package takes
// the place of a whole S3 client because such a library, with what it needs for
// everything else that S3 can do, costs every command some milliseconds before
// main; see docs/decisions.
package s3
