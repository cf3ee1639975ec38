// Package convert carries out the plans of package quant: it reads a checkpoint
// once and writes the quantized one, in bounded memory, so that a run that is
// stopped can go on.
//
//	plan, err := quant.NewPlan(src, quant.FP8, "", quant.Options{})
//	result, err := convert.Run(ctx, plan, src, dst, convert.Options{})
//	if errors.Is(err, convert.ErrUnfinished) { … Options.Resume … }
//	peak := convert.PeakMemory(plan, convert.Options{})    // bytes, before it runs
//
// # One run
//
// [Run] writes shards, a few at a time, each through a pipeline:
// a pool of goroutines reads, computes and writes tiles of rows, and hashes them in
// the order of the file. A shard has a temporary name until it is complete and
// synced; a receipt beside it says so. Then come the source's other files, the
// configuration, the index, and, last, glmconv-manifest.json: a directory without
// it is unfinished. An interrupted run goes on with the shards that have no
// receipt. Parts ([Options].Index, Count) may run on several machines at a time.
//
// The bytes depend on the plan alone: not on workers, parts, interruptions or
// memory. Peak memory stays under [Options].MaxMemory whatever the size of the
// model or of a tensor; the exception is compat int4 of Ascend, which holds one
// weight at a time because its reference's search looks at all rows.
//
// Before the manifest is written the result's headers are read back and compared,
// tensor by tensor, with a set computed from the family's table.
//
// # The source
//
// A receipt also has the identities of the source's files (size, times, inode) and
// a checksum (XXH3) of the bytes that the shard was made from, taken as they are read.
// Before a shard gets its name the files must be the ones that were opened; where an
// identity differs, then or in a later run, the bytes are read again: the same ones
// are the same source, others make the shard anew or end the run with
// [ErrSourceChanged]. The manifest keeps the checksums, so that a result that is
// there already is known to be this source's. Receipts of versions before that are
// made anew; of a manifest without checksums [Result].Unrecorded tells.
package convert
