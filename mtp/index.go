package mtp

import (
	"bytes"
	"encoding/json"
	"fmt"
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
