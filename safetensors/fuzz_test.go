package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	upstream "github.com/nlpodyssey/safetensors"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// FuzzHeader gives any bytes as a header followed by dataLen bytes of data.
// Reading never panics; what is accepted is what upstream understands under
// it, and what only we refuse is refused for a reason that upstream lacks.
func FuzzHeader(f *testing.F) {
	for _, c := range malformed {
		if len(c.file) > 8 && len(c.file) < 1000 {
			f.Add(c.file[8:], uint16(0))
			f.Add(c.file[8:], uint16(len(c.file)-8))
		}
	}
	f.Add([]byte("{"+metaPT+entry(`"a"`, "[2,3]", 0, 6)+","+entry(`"b"`, "[]", 6, 7)+"}"), uint16(7))
	f.Add([]byte(`{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}}  `), uint16(4))
	f.Fuzz(func(t *testing.T, head []byte, dataLen uint16) {
		file := rawFile(string(head), make([]byte, dataLen))
		var ours *header
		var err error
		testkit.AllocatesWithin(t, len(head), 400, 1<<20, func() { ours, err = readHeader(bytes.NewReader(file), int64(len(file)), "x", "x") })
		theirs, uerr := upstream.Deserialize(patchDTypes(file))
		if err != nil {
			var e *Error
			require.ErrorAs(t, err, &e)
			require.NotEmpty(t, e.Error())
			if uerr == nil && !repeatsKey(head) {
				// upstream is laxer in grammar, never in the layout of the data.
				require.NotContains(t, []error{ErrOffsets, ErrTruncated, ErrDType, ErrIO}, e.Kind, e.Error())
			}
			return
		}
		if !upstreamKnows(head, ours) {
			return
		}
		require.NoError(t, uerr)
		require.Equal(t, theirs.Len(), len(ours.tensors))
		for _, info := range ours.tensors {
			tv, ok := theirs.Tensor(info.Name)
			require.True(t, ok, info.Name)
			require.Equal(t, tv.Shape(), unsigned(info.Shape))
			require.Len(t, tv.Data(), int(info.Size))
			require.Equal(t, upstreamDType(info.DType), tv.DType().String())
			if info.Size > 0 {
				require.Same(t, &tv.Data()[0], firstByte(theirs, info.Offset-ours.dataStart), info.Name)
			}
		}
	})
}

// repeatsKey tells whether any object of valid JSON has a key twice. upstream
// sees the last value only, which may be the good one.
func repeatsKey(text []byte) bool {
	type level struct {
		keys  map[string]bool // nil in an array
		isKey bool
	}
	var stack []*level
	dec := json.NewDecoder(bytes.NewReader(text))
	for {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		var top *level
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		switch tok {
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
			continue
		}
		if top != nil && top.keys != nil {
			if top.isKey = !top.isKey; top.isKey {
				name := tok.(string)
				if top.keys[name] {
					return true
				}
				top.keys[name] = true
				continue
			}
		}
		switch tok {
		case json.Delim('{'):
			stack = append(stack, &level{keys: map[string]bool{}})
		case json.Delim('['):
			stack = append(stack, &level{})
		}
	}
}

// upstreamKnows tells whether nothing in an accepted header is beyond
// upstream: types wider or narrower than a byte that it lacks, other fields.
func upstreamKnows(head []byte, h *header) bool {
	for _, t := range h.tensors {
		if _, err := upstream.ParseDType(t.DType.String()); err != nil && t.DType.Bits() != 8 {
			return false
		}
	}
	var fields map[string]map[string]any
	if json.Unmarshal(head, &fields) != nil {
		return false
	}
	for name, f := range fields {
		if name != metadataKey && len(f) != 3 {
			return false
		}
		// patchDTypes works on text: a name or value could look like a type.
		if bytes.Count(head, []byte(`"F8_`)) > len(h.tensors) {
			return false
		}
	}
	return !bytes.Contains(head, []byte(`\u`)) || !bytes.Contains(head, []byte("8_"))
}

// firstByte finds the address of a data byte through any tensor that covers it.
func firstByte(st upstream.SafeTensors, off int64) *byte {
	pos := int64(0)
	for _, t := range st.Tensors() {
		data := t.TensorView.Data()
		if off < pos+int64(len(data)) {
			return &data[off-pos]
		}
		pos += int64(len(data))
	}
	return nil
}

// FuzzIndex: an index never panics, and an accepted one holds what
// encoding/json sees in it, with plain file names only.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1},"weight_map":{"a":"model.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x.safetensors","b":"/x.safetensors","c":"C:\\x.safetensors"}}`))
	f.Add([]byte(`{"metadata":{"total_size":1.5e3},"weight_map":{"a":"x","a":"y"}}`))
	f.Add([]byte(`{"metadata":null,"weight_map":{"\ud800":"m.safetensors"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var idx *index
		var err error
		testkit.AllocatesWithin(t, len(data), 400, 1<<20, func() { idx, err = parseIndex(data, "x") })
		if err != nil {
			var e *Error
			require.True(t, errors.As(err, &e))
			return
		}
		var plain struct {
			WeightMap map[string]string `json:"weight_map"`
		}
		if json.Unmarshal(data, &plain) == nil && len(plain.WeightMap) == len(idx.entries) {
			for _, e := range idx.entries {
				assert.Equal(t, plain.WeightMap[e.Tensor], e.File)
			}
		}
		for _, e := range idx.entries {
			if checkName(e.File, "x", e.Tensor) == nil {
				assert.True(t, filepath.IsLocal(e.File))
				assert.Equal(t, filepath.Base(e.File), e.File)
				assert.Equal(t, "/dir", filepath.Dir(filepath.Join("/dir", e.File)))
			}
		}
	})
}
