package verify

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/verify/diff"
)

// additions judges tensors that the source does not have. Parts of quantized
// weights are compared with them, copies of embedding and head for the MTP
// layer with what they copy, and scales of the KV cache are the engines' to
// use; anything else no conversion adds.
func (r *Result) additions(d *diff.Report, compared map[string]bool) {
	for _, x := range d.Added {
		module, param := glm.ModuleOf(x.Name)
		switch {
		case param == "k_scale", param == "v_scale", strings.HasSuffix(module, "rot"), param == "kv_cache_scale", param == "kv_cache_offset":
			r.Notes = append(r.Notes, Note{x.Name, "is not in the source; engines use it for their KV cache or rotation"})
		case compared[module]: // a part of a weight that was compared
		case strings.HasSuffix(x.Name, ".embed_tokens.weight"), strings.HasSuffix(x.Name, ".shared_head.head.weight"):
			// check compares them with the trunk's
		default:
			r.Exact.Differing++
			r.fail("exact", x.Name, fmt.Sprintf("%s %v in %s is not in the source, and no conversion adds it", x.B.DType, x.B.Shape, x.B.File))
		}
	}
}
