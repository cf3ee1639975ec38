package mtp

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/internal/safetext"
)

// SchemaRemap names the JSON form of a Remap.
const SchemaRemap = "glmconv.mtp-remap/1"

// Text says for a person what Apply will do.
func (r *Remap) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "MTP layer %d of %s (%s)\n", r.Layer, safetext.Line(filepath.Base(r.Dir)), r.Family)
	if r.Done && r.Out == "" {
		b.WriteString("  already done: the layer has its embed_tokens and shared_head.head, and the index names everything\n")
		return b.String()
	}
	for _, c := range r.Copies {
		fmt.Fprintf(&b, "  + %s  %s %v, copy of %s\n", c.Name, c.From.DType, c.From.Shape, c.From.Name)
	}
	if len(r.Listed) > 0 {
		fmt.Fprintf(&b, "  + %d tensors that the index does not name yet\n", len(r.Listed))
	}
	where := r.Dir
	if r.Out != "" {
		where = r.Out + " (hard links of " + r.Dir + ")"
	}
	where = safetext.Line(where)
	if len(r.Copies) > 0 {
		fmt.Fprintf(&b, "  %s, %s and %s in %s\n", r.File, mib(r.Bytes), r.indexName, where)
	} else {
		fmt.Fprintf(&b, "  %s in %s\n", r.indexName, where)
	}
	return b.String()
}

func mib(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// MarshalJSON gives the glmconv.mtp-remap/1 form.
func (r *Remap) MarshalJSON() ([]byte, error) {
	type tensor struct {
		Name  string  `json:"name"`
		From  string  `json:"from"`
		DType string  `json:"dtype"`
		Shape []int64 `json:"shape"`
	}
	tensors := make([]tensor, len(r.Copies))
	for i, c := range r.Copies {
		tensors[i] = tensor{c.Name, c.From.Name, c.From.DType.String(), c.From.Shape}
	}
	listed := r.Listed
	if listed == nil {
		listed = []string{}
	}
	return json.Marshal(struct {
		Schema string   `json:"schema"`
		Dir    string   `json:"dir"`
		Out    string   `json:"out,omitempty"`
		Family string   `json:"family"`
		Layer  int      `json:"layer"`
		File   string   `json:"file"`
		Index  string   `json:"index"`
		Done   bool     `json:"done"`
		Bytes  int64    `json:"bytes"`
		Added  []tensor `json:"tensors"`
		Listed []string `json:"listed"`
	}{SchemaRemap, r.Dir, r.Out, string(r.Family), r.Layer, r.File, r.indexName, r.Done, r.Bytes, tensors, listed})
}
