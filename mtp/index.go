package mtp

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
)

const (
	descriptionName = "quant_model_description.json"
	undoKey         = "glmconv_undo" // in the index's metadata
	manifestName    = "glmconv-manifest.json"
)

// index is an index file. Keys of metadata that this package does not know
// are kept.
type index struct {
	Metadata  map[string]json.RawMessage `json:"metadata"`
	WeightMap map[string]string          `json:"weight_map"`
}

func parseIndex(path string, raw []byte) (*index, error) {
	x := &index{}
	if err := json.Unmarshal(raw, x); err != nil {
		return nil, fmt.Errorf("%s: not an index: %w", path, err)
	}
	if x.WeightMap == nil {
		return nil, fmt.Errorf("%s: not an index: weight_map is missing", path)
	}
	if x.Metadata == nil {
		x.Metadata = map[string]json.RawMessage{}
	}
	return x, nil
}

// encode returns the file's text: keys sorted, indent 2, as the common tools
// write it.
func (x *index) encode() ([]byte, error) { return encodeJSON(x) }

func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// receipt holds what Undo needs: the former text of every file that was
// replaced (nil: it did not exist) and the names of the files that were made.
// It lives inside the new index, so that it appears and vanishes with it.
type receipt struct {
	Former  map[string]*string `json:"former"`
	Created []string           `json:"created"`
}

// maxReceipt bounds what a receipt may unpack to.
const maxReceipt = 1 << 30

func (r *receipt) pack() (json.RawMessage, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(b.Bytes()))
}

func unpackReceipt(v json.RawMessage) (*receipt, error) {
	var text string
	if err := json.Unmarshal(v, &text); err != nil {
		return nil, err
	}
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxReceipt))
	if err != nil {
		return nil, err
	}
	r := &receipt{}
	return r, json.Unmarshal(raw, r)
}
