// Package reach reads checkpoints where they are published: repositories of a
// Hugging Face compatible hub and of ModelScope, folders of web servers, buckets.
//
//	src, err := reach.Open(ctx, "hf://org/name@main", reach.Options{})
//	defer src.Close()
//	unmount, err := source.Mount(ctx, src)
//
// [Open] asks for the revision and the listing, and pins both. Headers are read
// by one range of 32 KiB a shard, data by blocks of 8 MiB over several
// connections ([Options].Connections). A broken answer goes on at its next byte;
// what a server asks to wait is waited, for all connections at once; signed
// addresses are kept, and renewed before they end.
//
// A file that one process reads whole is hashed as it passes and compared with
// the SHA-256 of the listing; [Source.Settle] reads the rest where that is asked for. Everything that a
// server says is checked against the listing: lengths, ranges, names.
//
// Credentials come from the environment or from files, go only to the host that
// they are for, and are in no error: those show scheme, host and path.
package reach
