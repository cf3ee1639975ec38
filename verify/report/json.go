package report

import (
	stdbytes "bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"

	"github.com/glmconv/glmconv/verify"
)

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema (draft 2020-12) of what JSON writes. Later versions
// of glmconv.verify/1 may add fields; those described stay.
func Schema() []byte { return stdbytes.Clone(schema) }

// JSON writes r as indented JSON and a newline. Fields keep the order of
// verify.Result; NaN and infinities are null; lists are never null.
func JSON(w io.Writer, r *verify.Result) error {
	raw, err := encode(r)
	if err != nil {
		return err
	}
	var out stdbytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(w)
	return err
}

// encode is json.Marshal with null for floats that JSON cannot hold.
func encode(r *verify.Result) ([]byte, error) {
	var b stdbytes.Buffer
	if err := value(&b, reflect.ValueOf(r)); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return b.Bytes(), nil
}

func value(b *stdbytes.Buffer, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			b.WriteString("null")
			return nil
		}
	case reflect.Pointer:
		if v.IsNil() {
			b.WriteString("null")
			return nil
		}
		return value(b, v.Elem())
	case reflect.Struct:
		b.WriteByte('{')
		first := true
		if err := fields(b, v, &first); err != nil {
			return err
		}
		b.WriteByte('}')
		return nil
	case reflect.Slice, reflect.Array:
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := value(b, v.Index(i)); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	default:
	}
	raw, err := json.Marshal(v.Interface())
	b.Write(raw)
	return err
}

// fields writes a struct's fields; those of an embedded struct without a tag
// are its own, as in encoding/json.
func fields(b *stdbytes.Buffer, v reflect.Value, first *bool) error {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if strings.Contains(options, "omitempty") && v.Field(i).IsZero() {
			continue
		}
		if f.Anonymous && name == "" {
			if err := fields(b, v.Field(i), first); err != nil {
				return err
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		if !*first {
			b.WriteByte(',')
		}
		*first = false
		key, _ := json.Marshal(name)
		b.Write(key)
		b.WriteByte(':')
		if err := value(b, v.Field(i)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
