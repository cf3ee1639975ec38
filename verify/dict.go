package verify

import (
	"bytes"
	"cmp"
	"encoding/gob"
	"slices"
)

// dict is a map that package gob stores as a list. Gob makes room for as many
// entries of a map as its bytes claim, before it has seen one: a file of 60 bytes
// could ask for all memory. Of a list it makes what it finds.
type dict[V any] map[string]V

// entry is one of a dict's.
type entry[V any] struct {
	Key   string
	Value V
}

// GobEncode lists the entries by their keys.
func (d dict[V]) GobEncode() ([]byte, error) {
	list := make([]entry[V], 0, len(d))
	for k, v := range d {
		list = append(list, entry[V]{k, v})
	}
	slices.SortFunc(list, func(a, b entry[V]) int { return cmp.Compare(a.Key, b.Key) })
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(list)
	return b.Bytes(), err
}

// GobDecode reads what GobEncode wrote; of equal keys the last one counts.
func (d *dict[V]) GobDecode(raw []byte) error {
	var list []entry[V]
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&list); err != nil {
		return err
	}
	*d = make(dict[V], len(list))
	for _, e := range list {
		(*d)[e.Key] = e.Value
	}
	return nil
}
