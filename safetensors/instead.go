package safetensors

import (
	"bytes"
	"io"
)

// beginnings are what files begin with that lie where a shard should be.
var beginnings = []struct{ start, is string }{
	{"version https://git-lfs", "it is a Git LFS pointer: run git lfs pull, or download the file with hf or modelscope"},
	{"<", "it is an HTML or XML page, as a server sends in place of a file (a login, an error): fetch the file again"},
	{"{", "it is JSON text, as a server sends in place of a file (an error): fetch the file again"},
	{"\x1f\x8b\x08", "it is compressed with gzip: unpack it"},
	{"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it"},
	{"PK\x03\x04", "it is a ZIP archive, as PyTorch's pickled weights are: take the safetensors release"},
	{"\x80\x02", "it is a Python pickle: take the safetensors release"},
	{"GGUF", "it is a GGUF file of llama.cpp: take the safetensors release"},
	{"# xet version", "it is a pointer of Xet: download the file with hf"},
	{"/annex/objects/", "it is a pointer of git-annex: run git annex get"},
}

// whatInstead says what a file is that cannot be a safetensors file.
func whatInstead(r io.ReaderAt) string {
	if is := begins(r, 1); is != "" {
		return is
	}
	return "this is probably not a safetensors file (a Git LFS pointer, an HTML page or another format)"
}

// sure is how long a beginning has to be to tell a file whose first eight bytes are a
// length that a header may have, of which two or three are no zeros: "\x80\x02" is 640.
const sure = 3

// begins says what a file is by its first bytes, "" for none of beginnings that have at
// least some bytes.
func begins(r io.ReaderAt, least int) string {
	var head [64]byte
	n, _ := r.ReadAt(head[:], 0)
	text := bytes.TrimLeft(head[:n], " \t\r\n\ufeff")
	for _, b := range beginnings {
		if len(b.start) >= least && bytes.HasPrefix(text, []byte(b.start)) {
			return b.is
		}
	}
	return ""
}
