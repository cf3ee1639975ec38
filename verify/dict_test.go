package verify

import (
	"bytes"
	"encoding/gob"
	"math"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// Nothing that is read from a file with package gob holds a map that gob makes.
func TestNoMapsInFiles(t *testing.T) {
	decodes := reflect.TypeFor[gob.GobDecoder]()
	seen := map[reflect.Type]bool{}
	var walk func(x reflect.Type, path string)
	walk = func(x reflect.Type, path string) {
		if seen[x] {
			return
		}
		seen[x] = true
		switch x.Kind() {
		case reflect.Map:
			require.True(t, reflect.PointerTo(x).Implements(decodes), "%s is a %s: use dict", path, x)
			walk(x.Elem(), path+"{}")
		case reflect.Slice, reflect.Pointer, reflect.Array:
			walk(x.Elem(), path+"[]")
		case reflect.Struct:
			for f := range x.Fields() {
				if f.IsExported() {
					walk(f.Type, path+"."+f.Name)
				}
			}
		}
	}
	walk(reflect.TypeFor[content](), "content")
	walk(reflect.TypeFor[point](), "point")
	require.True(t, seen[reflect.TypeFor[dict[bool]]()], "the walk reaches maps")
}

// Every entry, whatever its value, and no more come back.
func TestDictGoesThroughGob(t *testing.T) {
	for _, d := range []dict[float64]{nil, {}, {"a": 1, "b": math.NaN(), "": math.Inf(-1)}} {
		var b bytes.Buffer
		require.NoError(t, gob.NewEncoder(&b).Encode(struct{ D dict[float64] }{d}))
		var got struct{ D dict[float64] }
		require.NoError(t, gob.NewDecoder(&b).Decode(&got))
		require.Len(t, got.D, len(d))
		for k, v := range d {
			require.Equal(t, math.Float64bits(v), math.Float64bits(got.D[k]))
		}
	}
}
