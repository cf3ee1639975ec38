package safetensors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/jsonwalk"
)

// The names of index files.
const (
	IndexName       = "model.safetensors.index.json"               // Hugging Face, read by every engine
	AscendIndexName = "quant_model_weights.safetensors.index.json" // msmodelslim and the ascend layout
	MTPName         = "mtp.safetensors"                            // MTP layer in a file of its own
	rotationName    = "rot.safetensors"                            // msmodelslim adds it to an index that is written, and leaves total_size
	SingleName      = "model.safetensors"                          // checkpoint in one file
)

// maxIndexSize bounds an index. 60,000 tensors take 6 MB.
const maxIndexSize = 100_000_000

// index is a decoded index file; names and files are in file order.
type index struct {
	entries   []IndexEntry
	totalSize int64
	hasTotal  bool
}

// IndexEntry is a line of an index: which file has a tensor.
type IndexEntry struct{ Tensor, File string }

// notJSON says why an index is not JSON. Only what ends too early is a download
// that is incomplete.
func notJSON(data []byte, path string) *Error {
	e := fault(path).at(ErrIndex, "", -1, "the index is not JSON")
	e.Err = json.Unmarshal(data, new(json.RawMessage))
	e.Advice = "the file was edited or damaged; fetch it again"
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		e.Reason, e.Err = "the index begins with a byte order mark (EF BB BF), which JSON does not have", nil
		e.Advice = "save the file as UTF-8 without a byte order mark"
	case len(bytes.TrimSpace(data)) == 0, e.Err != nil && e.Err.Error() == "unexpected end of JSON input":
		e.Advice = hintDownload
	}
	return e
}

// parseIndex reads an index and refuses what encoding/json lets pass: keys
// that occur twice on any of the levels that matter, and invalid UTF-8. Paths
// are not judged here.
func parseIndex(data []byte, path string) (*index, error) {
	at := fault(path).at
	if i := invalidUTF8(data); i >= 0 {
		return nil, at(ErrInvalidUTF8, "", int64(i), "the index is not valid UTF-8")
	}
	if !json.Valid(data) {
		return nil, notJSON(data, path)
	}
	if i := loneSurrogate(data); i >= 0 {
		return nil, at(ErrInvalidUTF8, "", int64(i), "the index has half of a surrogate pair")
	}
	idx := &index{}
	found := false
	top, err := object(data, path, "the index")
	if err != nil {
		return nil, err
	}
	for _, m := range top {
		switch m.key {
		case "metadata":
			if err := idx.readMetadata(m.value, path); err != nil {
				return nil, err
			}
		case "weight_map":
			found = true
			if err := idx.readWeightMap(m.value, path); err != nil {
				return nil, err
			}
		}
	}
	if !found {
		return nil, at(ErrIndex, "", -1, "the index has no weight_map")
	}
	return idx, nil
}

func (idx *index) readMetadata(value []byte, path string) error {
	if string(value) == "null" {
		return nil
	}
	meta, err := object(value, path, "metadata")
	if err != nil {
		return err
	}
	for _, m := range meta {
		if m.key == "total_size" {
			if idx.totalSize, idx.hasTotal = wholeNumber(m.value); !idx.hasTotal {
				return fault(path).at(ErrIndex, "", -1, "total_size is %s, not a number of bytes", clip(m.value))
			}
		}
	}
	return nil
}

func (idx *index) readWeightMap(value []byte, path string) error {
	entries, err := object(value, path, "weight_map")
	if err != nil {
		return err
	}
	files := map[string]string{} // one string a file, not one an entry
	for _, m := range entries {
		name, ok := jsonwalk.Unquote(m.value)
		if !ok {
			return fault(path).at(ErrIndex, m.key, -1, "is mapped to %s, not to a file name", clip(m.value))
		}
		if _, ok := files[name]; !ok {
			files[name] = name
		}
		idx.entries = append(idx.entries, IndexEntry{m.key, files[name]})
	}
	return nil
}

type member struct {
	key   string
	value []byte
}

// object splits a JSON object, which is valid, into its members and refuses duplicate keys.
func object(data []byte, path, what string) ([]member, error) {
	at := fault(path).at
	c := jsonwalk.New(data)
	if _, ok := c.Open(); !ok {
		return nil, at(ErrIndex, "", -1, "%s is not a JSON object", what)
	}
	var out []member
	seen := map[string]struct{}{}
	for c.More() {
		key, _ := c.Key()
		if _, dup := seen[key]; dup {
			return nil, at(ErrDuplicate, "", -1, "%s has the key %s twice", what, clip([]byte(key)))
		}
		seen[key] = struct{}{}
		out = append(out, member{key, c.Value().Of(data)})
	}
	return out, nil
}

// wholeNumber reads total_size; some tools write it as 1.5e9 or 1500.0.
func wholeNumber(value []byte) (int64, bool) {
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return n, n >= 0
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil || f < 0 || f >= 1<<62 || f != math.Trunc(f) {
		return 0, false
	}
	return int64(f), true
}

// checkName judges the file name of an index entry: a plain name beside the
// index, which every engine looks for there.
func checkName(name, path, tensor string) error {
	bad := func(why string) error {
		e := fault(path).at(ErrPath, tensor, -1, "is mapped to %s, which %s", clip([]byte(strconv.Quote(name))), why)
		e.Advice = "the shards must lie beside the index; do not use this checkpoint if you do not trust its source"
		return e
	}
	switch {
	case name == "" || name == ".":
		return bad("is not a file name")
	case strings.ContainsAny(name, "\\:") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return bad("has a character that file names of shards do not have")
	case name == ".." || strings.HasPrefix(name, "/") || strings.HasPrefix(name, "../") || strings.Contains(name, "/../") || strings.HasSuffix(name, "/.."):
		return bad("leaves the directory")
	case strings.Contains(name, "/"):
		return bad("lies in another directory")
	case !strings.HasSuffix(name, ".safetensors") || strings.HasPrefix(name, ".") || fsx.IsTemp(name):
		return bad("is not a safetensors file")
	}
	return nil
}

// EncodeIndex returns the text of an index: keys sorted, indented by two, and
// no character escaped that JSON does not require to be. totalSize is the sum
// of the tensors' bytes. It sorts entries. A tensor that stands in two entries
// is ErrDuplicate, a file that readers would refuse ErrPath.
func EncodeIndex(entries []IndexEntry, totalSize int64) ([]byte, error) {
	size := 64
	for _, e := range entries {
		size += len(e.Tensor) + len(e.File) + len("\n    \"\": \"\",")
	}
	b := make([]byte, 0, size)
	if err := encodeIndex(entries, totalSize, func(line []byte) { b = append(b, line...) }); err != nil {
		return nil, err
	}
	return b, nil
}

// IndexSize adds up how long EncodeIndex's text is for tensors that are not held.
// The zero value is ready for use.
type IndexSize struct {
	lines, total int64
	hashes       []uint64 // of names
}

var indexSeed = maphash.MakeSeed()

// Add counts the tensors of a file, with EncodeIndex's errors but ErrDuplicate.
func (x *IndexSize) Add(file string, specs []Spec) error {
	if len(specs) == 0 {
		return nil
	}
	if err := checkName(file, IndexName, specs[0].Name); err != nil {
		return err
	}
	var b []byte
	for i := range specs {
		s := &specs[i]
		if !utf8.ValidString(s.Name) {
			return fault(IndexName).at(ErrInvalidUTF8, s.Name, -1, "has a name that is not valid UTF-8")
		}
		b = appendQuoted(append(b[:0], ",\n    "...), s.Name)
		b = appendQuoted(append(b, ": "...), file)
		x.lines += int64(len(b))
		x.total += s.Bytes()
		x.hashes = append(x.hashes, maphash.String(indexSeed, s.Name))
	}
	return nil
}

// Join adds what another has counted, which is empty after it.
func (x *IndexSize) Join(other *IndexSize) {
	x.lines, x.total, x.hashes = x.lines+other.lines, x.total+other.total, append(x.hashes, other.hashes...)
	*other = IndexSize{}
}

// Repeats reports whether a name may have been added twice: its hash was.
func (x *IndexSize) Repeats() bool {
	slices.Sort(x.hashes)
	for i := 1; i < len(x.hashes); i++ {
		if x.hashes[i] == x.hashes[i-1] {
			return true
		}
	}
	return false
}

// Bytes returns the length of the text.
func (x *IndexSize) Bytes() (n int64) {
	_ = encodeIndex(nil, x.total, func(text []byte) { n += int64(len(text)) })
	if x.lines == 0 {
		return n
	}
	return n + x.lines - int64(len(",")) + int64(len("\n  "))
}

// encodeIndex hands out the text line by line.
func encodeIndex(entries []IndexEntry, totalSize int64, put func(line []byte)) error {
	byName := func(a, b IndexEntry) int { return strings.Compare(a.Tensor, b.Tensor) }
	if !slices.IsSortedFunc(entries, byName) {
		slices.SortFunc(entries, byName)
	}
	put(fmt.Appendf(nil, "{\n  \"metadata\": {\n    \"total_size\": %d\n  },\n  \"weight_map\": {", totalSize))
	good := "" // the last file that was judged
	var b []byte
	for i, e := range entries {
		if i > 0 && e.Tensor == entries[i-1].Tensor {
			return fault(IndexName).at(ErrDuplicate, e.Tensor, -1, "would be written to %s and to %s", entries[i-1].File, e.File)
		}
		if e.File != good {
			if err := checkName(e.File, IndexName, e.Tensor); err != nil {
				return err
			}
			good = e.File
		}
		if !utf8.ValidString(e.Tensor) {
			return fault(IndexName).at(ErrInvalidUTF8, e.Tensor, -1, "has a name that is not valid UTF-8")
		}
		b = b[:0]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, "\n    "...)
		b = appendQuoted(b, e.Tensor)
		b = append(b, ": "...)
		put(appendQuoted(b, e.File))
	}
	if len(entries) > 0 {
		put([]byte("\n  "))
	}
	put([]byte("}\n}\n"))
	return nil
}

// WriteIndex writes an index file: at every moment the name holds what it held
// before or all of the new text. A nil fsys means the operating system's files.
// It is written after
// the shards it names: readers take its presence for completeness.
func WriteIndex(fsys FS, dir, name string, weightMap map[string]string, totalSize int64) error {
	entries := make([]IndexEntry, 0, len(weightMap))
	for tensor, file := range weightMap {
		entries = append(entries, IndexEntry{tensor, file})
	}
	data, err := EncodeIndex(entries, totalSize)
	if err != nil {
		return err
	}
	return writeFile(fsys, dir, name, data)
}
