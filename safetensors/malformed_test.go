package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const metaPT = `"__metadata__":{"format":"pt"},`

// entry is the JSON of one U8 tensor.
func entry(name string, shape string, begin, end int) string {
	return fmt.Sprintf(`%s:{"dtype":"U8","shape":%s,"data_offsets":[%d,%d]}`, name, shape, begin, end)
}

var malformed = []struct {
	name   string
	file   []byte
	kind   error
	tensor string
	reason string // part of the message
}{
	{"empty file", nil, ErrHeaderTooSmall, "", "0 bytes"},
	{"seven bytes", make([]byte, 7), ErrHeaderTooSmall, "", "7 bytes"},
	{"length zero", make([]byte, 8), ErrHeaderTooSmall, "", "0 bytes"},
	{"length one", rawFile("{", nil), ErrHeaderTooSmall, "", "1 bytes"},
	{"length over 100 MB", binary.LittleEndian.AppendUint64(nil, 100_000_001), ErrHeaderTooLarge, "", "100,000,001"},
	{"length of all ones", []byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"), ErrHeaderTooLarge, "", "18,446,744,073,709,551,615"},
	{"length with the sign bit", []byte("\x00\x00\x00\x00\x00\x00\x00\x80{}"), ErrHeaderTooLarge, "", "9,223,372,036,854,775,808"},
	{"header beyond the file", append(binary.LittleEndian.AppendUint64(nil, 3), "{}"...), ErrTruncated, "", "the header ends at byte 11, the file at 10"},
	{"LFS pointer", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5"), ErrHeaderTooLarge, "", "claims"},

	{"null", rawFile("null", nil), ErrHeader, "", "byte 0x6e instead of {"},
	{"array", rawFile("[]", nil), ErrHeader, "", "0x5b"},
	{"leading space", rawFile(" {}", nil), ErrHeader, "", "0x20"},
	{"byte order mark", rawFile("\xef\xbb\xbf{}", nil), ErrHeader, "", "0xef"},
	{"padding newline", rawFile("{}\n", nil), ErrHeader, "", "ends with byte 0x0a"},
	{"padding tab then space", rawFile("{}\t ", nil), ErrHeader, "", "0x09"},
	{"padding zero", rawFile("{}\x00\x00", nil), ErrHeader, "", "0x00"},
	{"two objects", rawFile("{}{}", nil), ErrHeader, "", "not JSON"},
	{"cut JSON", rawFile(`{"a":{"dtype":"U8"}`, nil), ErrHeader, "", "not JSON"},
	{"trailing comma", rawFile(`{`+entry(`"a"`, "[0]", 0, 0)+`,}`, nil), ErrHeader, "", "not JSON"},
	{"single quotes", rawFile(`{'a':{}}`, nil), ErrHeader, "", "not JSON"},
	{"nesting", rawFile(`{"a":{"x":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+`}}`, nil), ErrHeader, "", "depth"},
	{"NaN", rawFile(`{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,0]}}`, nil), ErrHeader, "", "not JSON"},

	{"invalid UTF-8 in a name", rawFile("{"+entry("\"a\xff\"", "[0]", 0, 0)+"}", nil), ErrInvalidUTF8, "", "at byte 11"},
	{"two names that collide under replacement", rawFile("{"+entry("\"a\xff\"", "[0]", 0, 0)+","+entry("\"a\xfe\"", "[0]", 0, 0)+"}", nil), ErrInvalidUTF8,
		"", "UTF-8"},
	{"overlong UTF-8", rawFile("{"+entry("\"\xc0\x80\"", "[0]", 0, 0)+"}", nil), ErrInvalidUTF8, "", "UTF-8"},
	{"encoded surrogate", rawFile("{"+entry("\"\xed\xa0\x80\"", "[0]", 0, 0)+"}", nil), ErrInvalidUTF8, "", "UTF-8"},
	{"lone high surrogate", rawFile("{"+entry(`"\ud800"`, "[0]", 0, 0)+"}", nil), ErrInvalidUTF8, "", "surrogate"},
	{"lone low surrogate", rawFile("{"+entry(`"\udc00"`, "[0]", 0, 0)+"}", nil), ErrInvalidUTF8, "", "surrogate"},
	{"high surrogate before text", rawFile("{"+entry(`"\ud83dx\ude00"`, "[0]", 0, 0)+"}", nil), ErrInvalidUTF8, "", "surrogate"},
	{"high surrogate before escape", rawFile("{"+entry(`"\ud83d\n"`, "[0]", 0, 0)+"}", nil), ErrInvalidUTF8, "", "surrogate"},
	{"two high surrogates", rawFile("{"+entry(`"\ud83d\ud83d"`, "[0]", 0, 0)+"}", nil), ErrInvalidUTF8, "", "surrogate"},

	{"duplicate name", rawFile("{"+entry(`"a"`, "[0]", 0, 0)+","+entry(`"a"`, "[0]", 0, 0)+"}", nil), ErrDuplicate, "a", "twice"},
	{"duplicate name by escape", rawFile("{"+entry(`"a"`, "[0]", 0, 0)+","+entry(`"\u0061"`, "[0]", 0, 0)+"}", nil), ErrDuplicate, "a", "twice"},
	{"duplicate dtype", rawFile(`{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, nil), ErrDuplicate, "a", "dtype twice"},
	{"duplicate shape", rawFile(`{"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}}`, nil), ErrDuplicate, "a", "shape twice"},
	{"duplicate data_offsets", rawFile(`{"a":{"data_offsets":[0,0],"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, nil), ErrDuplicate, "a",
		"data_offsets twice"},
	{"duplicate unknown field", rawFile(`{"a":{"x":1,"x":2,"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, nil), ErrDuplicate, "a", "x twice"},
	{"duplicate __metadata__", rawFile(`{"__metadata__":{},"__metadata__":{}}`, nil), ErrDuplicate, "__metadata__", "twice"},
	{"duplicate metadata key", rawFile(`{"__metadata__":{"a":"1","a":"2"}}`, nil), ErrDuplicate, "", "key a twice"},

	{"metadata number", rawFile(`{"__metadata__":{"a":1}}`, nil), ErrHeader, "", "entry a is not a string"},
	{"metadata null value", rawFile(`{"__metadata__":{"a":null}}`, nil), ErrHeader, "", "entry a is not a string"},
	{"metadata object value", rawFile(`{"__metadata__":{"a":{"a":"b"}}}`, nil), ErrHeader, "", "entry a is not a string"},
	{"metadata list", rawFile(`{"__metadata__":[]}`, nil), ErrHeader, "", "__metadata__ is not a JSON object"},
	{"metadata string", rawFile(`{"__metadata__":"x"}`, nil), ErrHeader, "", "__metadata__ is not a JSON object"},
	{"tensor called __metadata__", rawFile("{"+entry(`"__metadata__"`, "[1]", 0, 1)+"}", []byte{1}), ErrHeader, "", "entry shape is not a string"},

	{"tensor null", rawFile(`{"a":null}`, nil), ErrHeader, "a", "not a JSON object"},
	{"tensor list", rawFile(`{"a":["U8",[0],[0,0]]}`, nil), ErrHeader, "a", "not a JSON object"},
	{"tensor empty", rawFile(`{"a":{}}`, nil), ErrHeader, "a", "no dtype"},
	{"no shape", rawFile(`{"a":{"dtype":"U8","data_offsets":[0,0]}}`, nil), ErrHeader, "a", "no shape"},
	{"no offsets", rawFile(`{"a":{"dtype":"U8","shape":[0]}}`, nil), ErrHeader, "a", "no data_offsets"},
	{"field in capitals", rawFile(`{"a":{"dtype":"U8","Shape":[0],"data_offsets":[0,0]}}`, nil), ErrHeader, "a", "no shape"},

	{"unknown dtype", rawFile(`{"a":{"dtype":"F9","shape":[0],"data_offsets":[0,0]}}`, nil), ErrDType, "a", `unknown dtype "F9"`},
	{"dtype in small letters", rawFile(`{"a":{"dtype":"u8","shape":[0],"data_offsets":[0,0]}}`, nil), ErrDType, "a", `"u8"`},
	{"dtype empty", rawFile(`{"a":{"dtype":"","shape":[0],"data_offsets":[0,0]}}`, nil), ErrDType, "a", `""`},
	{"dtype number", rawFile(`{"a":{"dtype":8,"shape":[0],"data_offsets":[0,0]}}`, nil), ErrDType, "a", "8"},
	{"dtype null", rawFile(`{"a":{"dtype":null,"shape":[0],"data_offsets":[0,0]}}`, nil), ErrDType, "a", "null"},

	{"shape null", rawFile("{"+entry(`"a"`, "null", 0, 0)+"}", nil), ErrShape, "a", "null"},
	{"shape number", rawFile("{"+entry(`"a"`, "4", 0, 4)+"}", make([]byte, 4)), ErrShape, "a", "shape 4"},
	{"shape negative", rawFile("{"+entry(`"a"`, "[-1,-4]", 0, 4)+"}", make([]byte, 4)), ErrShape, "a", "[-1,-4]"},
	{"shape minus zero", rawFile("{"+entry(`"a"`, "[-0]", 0, 0)+"}", nil), ErrShape, "a", "[-0]"},
	{"shape fraction", rawFile("{"+entry(`"a"`, "[4.0]", 0, 4)+"}", make([]byte, 4)), ErrShape, "a", "[4.0]"},
	{"shape exponent", rawFile("{"+entry(`"a"`, "[4e0]", 0, 4)+"}", make([]byte, 4)), ErrShape, "a", "[4e0]"},
	{"shape string", rawFile("{"+entry(`"a"`, `["4"]`, 0, 4)+"}", make([]byte, 4)), ErrShape, "a", "natural"},
	{"shape nested", rawFile("{"+entry(`"a"`, `[[4]]`, 0, 4)+"}", make([]byte, 4)), ErrShape, "a", "natural"},
	{"rank nine", rawFile("{"+entry(`"a"`, `[1,1,1,1,1,1,1,1,1]`, 0, 1)+"}", make([]byte, 1)), ErrShape, "a", "9 dimensions"},
	{"size too small", rawFile("{"+entry(`"a"`, "[4]", 0, 3)+"}", make([]byte, 3)), ErrShape, "a", "takes 4 bytes, its offsets give 3"},
	{"size too large", rawFile("{"+entry(`"a"`, "[4]", 0, 5)+"}", make([]byte, 5)), ErrShape, "a", "takes 4 bytes, its offsets give 5"},
	{"half bytes", rawFile(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}`, make([]byte, 2)), ErrShape, "a", "whole bytes"},
	{"F6 not whole", rawFile(`{"a":{"dtype":"F6_E2M3","shape":[2],"data_offsets":[0,2]}}`, make([]byte, 2)), ErrShape, "a", "whole bytes"},

	{"dimension beyond 64 bits", rawFile("{"+entry(`"a"`, "[18446744073709551616]", 0, 0)+"}", nil), ErrOverflow, "", "64 bits"},
	{"dimension beyond 63 bits", rawFile("{"+entry(`"a"`, "[9223372036854775808]", 0, 0)+"}", nil), ErrOverflow, "a", "64 bits"},
	{"product overflows", rawFile("{"+entry(`"a"`, "[4294967296,4294967296]", 0, 0)+"}", nil), ErrOverflow, "a", "64 bits"},
	{"product overflows before a zero", rawFile("{"+entry(`"a"`, "[4294967296,4294967296,0]", 0, 0)+"}", nil), ErrOverflow, "a", "64 bits"},
	{"bits overflow", rawFile(`{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}`, nil), ErrOverflow, "a", "bits"},
	{"offset beyond 64 bits", rawFile(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,99999999999999999999]}}`, nil), ErrOverflow, "", "64 bits"},
	{"offset beyond 63 bits", rawFile(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[9223372036854775807,9223372036854775807]}}`, nil), ErrOverflow, "a",
		"beyond any file"},
	{"start beyond 63 bits", rawFile(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[18446744073709551615,0]}}`, nil), ErrOverflow, "a", "beyond any file"},

	{"one offset", rawFile(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}}`, nil), ErrOffsets, "a", "[0]"},
	{"three offsets", rawFile(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}`, nil), ErrOffsets, "a", "[0,0,0]"},
	{"offsets null", rawFile(`{"a":{"dtype":"U8","shape":[0],"data_offsets":null}}`, nil), ErrOffsets, "a", "null"},
	{"offsets negative", rawFile(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[-1,-1]}}`, nil), ErrOffsets, "a", "[-1,-1]"},
	{"offsets fraction", rawFile(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0.0]}}`, nil), ErrOffsets, "a", "[0,0.0]"},
	{"end before start", rawFile("{"+entry(`"a"`, "[1]", 1, 0)+"}", []byte{1}), ErrOffsets, "a", "before its start"},
	{"hole at the start", rawFile("{"+entry(`"a"`, "[1]", 1, 2)+"}", make([]byte, 2)), ErrOffsets, "a", "hole"},
	{"hole between", rawFile("{"+entry(`"a"`, "[1]", 0, 1)+","+entry(`"b"`, "[1]", 2, 3)+"}", make([]byte, 3)), ErrOffsets, "b", "hole"},
	{"overlap", rawFile("{"+entry(`"a"`, "[2]", 0, 2)+","+entry(`"b"`, "[2]", 1, 3)+"}", make([]byte, 3)), ErrOffsets, "b", "inside of tensor a"},
	{"same bytes twice", rawFile("{"+entry(`"a"`, "[2]", 0, 2)+","+entry(`"b"`, "[2]", 0, 2)+"}", make([]byte, 2)), ErrOffsets, "b", "inside of tensor a"},
	{"empty tensor inside another", rawFile("{"+entry(`"a"`, "[2]", 0, 2)+","+entry(`"b"`, "[0]", 1, 1)+"}", make([]byte, 2)), ErrOffsets, "b",
		"inside of tensor a"},
	{"empty tensor after the end", rawFile("{"+entry(`"a"`, "[0]", 5, 5)+"}", make([]byte, 5)), ErrOffsets, "a", "hole"},
	{"trailing bytes", rawFile("{"+metaPT+entry(`"a"`, "[2]", 0, 2)+"}", make([]byte, 5)), ErrOffsets, "", "3 bytes follow the last tensor"},
	{"data without tensors", rawFile("{}", []byte{1}), ErrOffsets, "", "1 bytes follow"},
	{"second tensor cut", rawFile("{"+entry(`"a"`, "[2]", 0, 2)+","+entry(`"b"`, "[2000]", 2, 2002)+"}", make([]byte, 100)), ErrTruncated, "b", "the file at "},
	{"all data missing", rawFile("{"+entry(`"a"`, "[2]", 0, 2)+"}", nil), ErrTruncated, "a", "the file at"},

	{"long name", rawFile("{"+entry(`"`+strings.Repeat("n", 4097)+`"`, "[0]", 0, 0)+"}", nil), ErrHeader, strings.Repeat("n", 64), "4,097 bytes"},
	{"many unknown fields", rawFile(`{"a":{`+numberedFields(17)+`"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, nil), ErrHeader, "a",
		"more than 16 unknown"},
}

func numberedFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"x%d":0,`, i)
	}
	return b.String()
}

func TestMalformed(t *testing.T) {
	kinds := []error{ErrHeader, ErrHeaderTooLarge, ErrHeaderTooSmall, ErrInvalidUTF8, ErrDuplicate, ErrDType, ErrShape, ErrOffsets,
		ErrTruncated, ErrOverflow, ErrIndex, ErrPath, ErrNotFound, ErrRange, ErrSpec, ErrChanged, ErrIO}
	dir := t.TempDir()
	seen := map[string]bool{}
	for _, c := range malformed {
		t.Run(c.name, func(t *testing.T) {
			require.False(t, seen[c.name])
			seen[c.name] = true
			path := putFile(t, dir, "x.safetensors", c.file)
			f, err := OpenFile(path)
			require.Nil(t, f)
			var e *Error
			require.ErrorAs(t, err, &e)
			for _, k := range kinds {
				assert.Equal(t, errors.Is(c.kind, k), errors.Is(err, k), "%v is %v", err, k)
			}
			assert.Equal(t, path, e.File)
			assert.Equal(t, c.tensor, e.Tensor)
			assert.Contains(t, err.Error(), c.reason)
			assert.True(t, strings.HasPrefix(err.Error(), path+": "), err.Error())
			if c.tensor != "" {
				assert.Contains(t, err.Error(), c.tensor)
			}
			assert.NotContains(t, err.Error(), "\n")
			assert.LessOrEqual(t, e.Offset, int64(len(c.file)), "offset inside of the file")
		})
	}
}

// TestAccepted holds what looks odd and is legal.
func TestAccepted(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		file []byte
		want []string
	}{
		"empty":          {rawFile("{}", nil), nil},
		"only padding":   {rawFile("{}      ", nil), nil},
		"metadata null":  {rawFile(`{"__metadata__":null}`, nil), nil},
		"metadata empty": {rawFile(`{"__metadata__":{}}`, nil), nil},
		"scalar":         {rawFile("{"+entry(`"a"`, "[]", 0, 1)+"}", []byte{1}), []string{"a U8 [] 0+1"}},
		"empty tensor":   {rawFile("{"+entry(`"a"`, "[3,0]", 0, 0)+"}", nil), []string{"a U8 [3 0] 0+0"}},
		"unknown field":  {rawFile(`{"a":{"dtype":"U8","note":{"x":[1]},"shape":[1],"data_offsets":[0,1]}}`, []byte{1}), []string{"a U8 [1] 0+1"}},
		"spaces inside": {rawFile("{ \"a\" :\t{ \"dtype\":\"U8\" ,\n\"shape\" : [ 1 , 2 ] , \"data_offsets\" : [ 0 , 2 ] } }", []byte{1, 2}),
			[]string{"a U8 [1 2] 0+2"}},
		"not in file order": {rawFile("{"+entry(`"b"`, "[1]", 1, 2)+","+entry(`"a"`, "[1]", 0, 1)+"}", []byte{1, 2}),
			[]string{"a U8 [1] 0+1", "b U8 [1] 1+1"}},
		"empty tensors share a place": {rawFile("{"+entry(`"b"`, "[1]", 0, 1)+","+entry(`"c"`, "[0]", 0, 0)+","+entry(`"a"`, "[0]", 0, 0)+","+entry(`"d"`,
			"[0]", 1, 1)+"}", []byte{1}), []string{"c U8 [0] 0+0", "a U8 [0] 0+0", "b U8 [1] 0+1", "d U8 [0] 1+0"}},
		"escapes": {rawFile("{"+entry(`"\ud83d\ude00\\ud800\/"`, "[0]", 0, 0)+"}", nil), []string{"😀\\ud800/ U8 [0] 0+0"}},
		"replacement character": {rawFile("{"+entry(`"\ufffd"`, "[0]", 0, 0)+","+entry("\"\u00e9\"", "[0]", 0, 0)+"}", nil),
			[]string{"\ufffd U8 [0] 0+0", "é U8 [0] 0+0"}},
		"empty name":                {rawFile("{"+entry(`""`, "[0]", 0, 0)+"}", nil), []string{" U8 [0] 0+0"}},
		"rank eight":                {rawFile("{"+entry(`"a"`, "[1,1,1,1,1,1,1,1]", 0, 1)+"}", []byte{1}), []string{"a U8 [1 1 1 1 1 1 1 1] 0+1"}},
		"largest shape of no bytes": {rawFile("{"+entry(`"a"`, "[0,9223372036854775807,2]", 0, 0)+"}", nil), []string{"a U8 [0 9223372036854775807 2] 0+0"}},
		"sub-byte types": {rawFile(`{"a":{"dtype":"F4","shape":[2,2],"data_offsets":[0,2]},"b":{"dtype":"F6_E3M2","shape":[4],"data_offsets":[2,5]},"c":{"dtype":"C64","shape":[1],"data_offsets":[5,13]}}`,
			make([]byte, 13)), []string{"a F4 [2 2] 0+2", "b F6_E3M2 [4] 2+3", "c C64 [1] 5+8"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := OpenFile(putFile(t, dir, "x.safetensors", c.file))
			require.NoError(t, err)
			defer f.Close()
			var got []string
			for _, i := range f.Tensors() {
				got = append(got, fmt.Sprintf("%s %s %v %d+%d", i.Name, i.DType, i.Shape, i.Offset-f.DataOffset(), i.Size))
				assert.Equal(t, "x.safetensors", i.File)
			}
			assert.Equal(t, c.want, got)
			assert.Empty(t, f.Metadata())
			head, err := f.HeaderBytes()
			require.NoError(t, err)
			assert.Equal(t, c.file[8:f.DataOffset()], head)
		})
	}
}

// TestEveryDType reads one tensor of each type of the format.
func TestEveryDType(t *testing.T) {
	dir := t.TempDir()
	for d := Bool; d <= U64; d++ {
		size := DataSize(d, []int64{8})
		head := fmt.Sprintf(`{"a":{"dtype":"%s","shape":[8],"data_offsets":[0,%d]}}`, d, size)
		f, err := OpenFile(putFile(t, dir, "x.safetensors", rawFile(head, make([]byte, size))))
		require.NoError(t, err, d.String())
		info, ok := f.Tensor("a")
		require.True(t, ok)
		assert.Equal(t, d, info.DType)
		require.NoError(t, f.Close())
	}
}

// TestTruncatedMessage is the message of the specification's sketch.
func TestTruncatedMessage(t *testing.T) {
	head := "{" + entry(`"model.up_proj.weight"`, "[5000]", 0, 5000) + "}"
	path := putFile(t, t.TempDir(), "m.safetensors", rawFile(head, make([]byte, 1000)))
	_, err := OpenFile(path)
	var e *Error
	require.ErrorAs(t, err, &e)
	begin := 8 + len(head)
	assert.Equal(t, fmt.Sprintf("%s: tensor model.up_proj.weight ends at byte %s, the file at %s", path, commas(begin+5000), commas(begin+1000)), err.Error())
	assert.Equal(t, "the download is incomplete; fetch this file again (expected size "+commas(begin+5000)+")", e.Advice)
}

func TestErrorText(t *testing.T) {
	e := &Error{Kind: ErrShape, File: "f", Tensor: "a\nb", Offset: 1234, Reason: "is bad"}
	assert.Equal(t, `f: tensor "a\nb" is bad (at byte 1,234)`, e.Error())
	e = &Error{Kind: ErrIO, Offset: -1, Reason: "cannot be read", Err: os.ErrPermission}
	assert.Equal(t, "cannot be read: permission denied", e.Error())
	assert.ErrorIs(t, e, ErrIO)
	assert.ErrorIs(t, e, os.ErrPermission)
	assert.NotErrorIs(t, e, ErrShape)
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 5368709312: "5,368,709,312"} {
		assert.Equal(t, want, commas(n))
	}
}

func TestOpenFileOddities(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenFile(dir + "/absent.safetensors")
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = OpenFile(dir)
	require.ErrorIs(t, err, ErrPath)
}
