// Package safetensors reads and writes checkpoints: single files of the
// safetensors format, and directories of them held together by an index. It
// knows nothing of models.
//
// # Reading
//
// [OpenDir] opens a directory, [OpenFile] a file. Both read headers only; a
// checkpoint of 300 shards and 60,000 tensors takes well under a second and
// some tens of megabytes. Data is read by byte or row ranges, with pread, from
// any number of goroutines; at most 48 files are open at a time.
//
//	c, err := safetensors.OpenDir("GLM-4.5-Air")
//	if err != nil {
//		return err // *safetensors.Error: file, tensor, offset, reason, hint
//	}
//	defer c.Close()
//	t, ok := c.Info("model.embed_tokens.weight")
//	rows := make([]byte, 16*t.RowSize())
//	err = c.ReadRows(t.Name, 0, 16, rows) // the first 16 rows
//
// The set of tensors is that of the index's shards. What deserves a word but
// need not stop a reader is in [Checkpoint.Problems]: files the index does not
// list, tensors it does not list, a second index, a wrong total_size, files of
// an interrupted run. An mtp.safetensors that the index does not list is read
// as well, since it holds the MTP layer that other tools lose. With
// [Options].AllErrors even errors are collected there.
//
// # What is refused
//
// A header is taken if the reference implementation takes it and the format's
// README allows it. On top of what encoding/json and upstream check (see
// below) that means: it begins with { and ends with } and spaces; it is valid
// UTF-8 without lone surrogates; no key occurs twice, neither a tensor's name
// nor a field of a tensor nor a key of __metadata__; __metadata__ is null or
// maps strings to strings; the tensors fill the data section without overlap,
// hole or trailing bytes; a tensor's length is its shape times its type,
// computed without overflow. Unknown fields of a tensor are ignored, as the
// reference ignores them. Limits of our own, far above real files:
// [MaxTensors], [MaxNameLength], [MaxRank]. All of it is checked against the
// file's size before memory is taken for it.
//
// All types of the format can be read, those of 4 and 6 bits included; row
// ranges of the latter must fall on whole bytes.
//
// An index may name plain file names only. Symlinks are followed as long as
// they stay inside the directory; a Hugging Face cache, whose files are
// symlinks to a folder of blobs elsewhere, is refused with a hint.
//
// Errors are [*Error] and match one of the kinds ErrHeader … ErrIO by
// errors.Is. ErrIO alone says that the machine failed, not the file.
//
// # Writing
//
// [PlanFile] lays a file out before its first byte of data exists, [Create]
// reserves its space under a temporary name, [Writer.Write] takes the data in
// order and hashes it, [Writer.Commit] makes it durable and gives it its name.
// [Writer.PutAt] writes parts ahead of their turn, from many goroutines;
// [Writer.Hash] takes them in order. [WriteIndex] comes after all shards.
//
//	plan, err := safetensors.PlanFile("model-00001-of-00001.safetensors", []safetensors.Spec{
//		{Name: "a.weight", DType: safetensors.BF16, Shape: []int64{128, 64}},
//	}, nil)
//	w, err := safetensors.Create(nil, dir, plan)
//	defer w.Abort() // removes the temporary file unless committed
//	_, err = w.Write(data)
//	sum, err := w.Commit()
//
// # Upstream
//
// The JSON of a header is decoded by github.com/nlpodyssey/safetensors. That
// library has no 8-bit floats and no smaller types, wants a whole file in
// memory to check its offsets, and keeps the last of two equal keys. So a scan
// over the tokens first finds what it would let pass; then its Metadata type
// decodes the header in batches in which types it does not know are called U8
// and unknown fields are left out; the true types are in our table, and
// offsets are checked against the size of the file here. When it learns these
// types the renaming goes away. In the tests it judges everything we write.
package safetensors
