// Package quant turns a GLM checkpoint into a quantised one.
//
//	src, err := safetensors.OpenDir(dir)                  // headers only
//	plan, err := quant.NewPlan(src, quant.W4A8, layout.Ascend, quant.Options{})
//	fmt.Println(plan.Summary())                           // every tensor's fate, bytes, engines
//	result, err := quant.Convert(ctx, plan, src, dst, quant.ConvertOptions{})
//
// # Plan
//
// A [Plan] holds every decision: what becomes of each tensor and why, under
// which name, dtype and shape, in which file at which offset. Making one reads
// config.json and headers, so a 1.5 TB checkpoint takes seconds, and carrying
// it out leaves nothing to decide. Every source tensor is quantised, copied or
// dropped by a rule that the plan names; nothing is dropped unless asked.
//
// # Conversion
//
// [Convert] writes one shard after another (two at a time), each through a
// pipeline: one goroutine reads tiles of rows in file order, a pool computes
// them, one writes them in order with a running SHA-256. A shard has a
// temporary name until it is complete and synced; a receipt beside it says so.
// Then come the source's other files, the configuration, the index, and, last,
// glmconv-manifest.json: a directory without it is unfinished. An interrupted
// run goes on with the shards that have no receipt.
//
// A receipt also has the identities of the source's files (size, times, inode)
// and the CRC-32C of the bytes that the shard was made from, taken as they are
// read. Before a shard gets its name the files must be the ones that were
// opened; where an identity differs, then or in a later run, the bytes are read
// again: the same ones are the same source, others make the shard anew or end
// the run with [ErrSourceChanged]. The manifest keeps the checksums, so that a result that
// is there already is known to be this source's. Receipts of versions before
// that are made anew; of a manifest without checksums [Result].Unrecorded tells.
//
// The bytes depend on the plan alone: not on workers, parts, interruptions or
// memory. Peak memory stays under ConvertOptions.MaxMemory whatever the size
// of the model or of a tensor; the exception is compat int4 of Ascend, which
// holds one weight at a time because its reference's search looks at all rows.
//
// Before the manifest is written the result's headers are read back and
// compared, tensor by tensor, with a set computed from the family's table.
package quant
