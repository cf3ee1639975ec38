package quant

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/glmconv/glmconv/internal/jsonwalk"
)

// WriteJSON writes the plan as JSON returns it, indented, with other rows of
// engines. Tensors are written as they are made: of the largest models they are
// 55 MB of text, and more as values.
func (p *Plan) WriteJSON(w io.Writer, peakMemory int64, engines []EngineJSON) error {
	j := p.head(peakMemory)
	j.Engines, j.Tensors = engines, []TensorJSON{}
	var compact, text bytes.Buffer
	enc := json.NewEncoder(&compact)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(j); err != nil {
		return err
	}
	if err := jsonwalk.WriteIndented(&text, compact.Bytes()); err != nil {
		return err
	}
	before, after, ok := bytes.Cut(text.Bytes(), []byte("\n  \"tensors\": []")) // no string holds a line break
	if !ok {
		return errors.New("a plan in JSON has no list of tensors")
	}
	out := bufio.NewWriterSize(w, 64<<10)
	_, _ = out.Write(before) // a bufio.Writer keeps its first error for Flush
	_, _ = out.WriteString("\n  \"tensors\": [")
	var line []byte
	for i := range p.Items {
		if line = line[:0]; i > 0 {
			line = append(line, ',')
		}
		line = p.appendItem(line, &p.Items[i])
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	if len(p.Items) > 0 {
		_, _ = out.WriteString("\n  ")
	}
	_ = out.WriteByte(']')
	_, _ = out.Write(after)
	return out.Flush()
}

// appendItem appends the fate of one source tensor: a TensorJSON.
func (p *Plan) appendItem(b []byte, it *Item) []byte {
	b = appendText(append(b, "\n    {\n      \"name\": "...), it.Name())
	b = appendText(append(b, ",\n      \"action\": "...), string(it.Action))
	b = appendText(append(b, ",\n      \"scheme\": "...), it.Scheme)
	b = append(b, ",\n      \"outputs\": ["...)
	outputs := p.Outputs(it)
	for i, out := range outputs {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(append(b, "\n        {\n          \"name\": "...), out.Name)
		b = appendText(append(b, ",\n          \"dtype\": "...), out.DType.String())
		b = append(b, ",\n          \"shape\": "...)
		b = appendShape(b, out.Shape)
		b = strconv.AppendInt(append(b, ",\n          \"bytes\": "...), out.Bytes(), 10)
		b = appendText(append(b, ",\n          \"file\": "...), p.Files[it.File].Plan.Name)
		b = append(b, "\n        }"...)
	}
	if len(outputs) > 0 {
		b = append(b, "\n      "...)
	}
	b = append(b, ']')
	b = appendText(append(b, ",\n      \"reason\": "...), it.Reason)
	return append(b, "\n    }"...)
}

func appendShape(b []byte, shape []int64) []byte {
	switch {
	case shape == nil:
		return append(b, "null"...)
	case len(shape) == 0:
		return append(b, "[]"...)
	}
	b = append(b, '[')
	for i, n := range shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, "\n            "...), n, 10)
	}
	return append(b, "\n          ]"...)
}

// appendText appends a string of JSON: as it is where nothing has to be escaped.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			var quoted bytes.Buffer
			enc := json.NewEncoder(&quoted)
			enc.SetEscapeHTML(false)
			_ = enc.Encode(s) // of a string into memory
			return append(b, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
