package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/format"
)

// ascend is vllm-ascend (docs/facts/engine-vllm-ascend.md, docs/facts/ascend.md): run on
// the CPU with NPUs simulated in 0.18 on vLLM 0.18; its configuration classes
// also in 0.30 (testdata/vllm-ascend-*.json), read in the source archives of
// 0.20 to 0.30.0rc2. Patch releases and candidates stand with their release.
var ascend = spec{
	name: Ascend, title: "vllm-ascend",
	releases: []string{"0.18", "0.20", "0.21", "0.22", "0.23", "0.24", "0.25", "0.26", "0.27", "0.28", "0.29", "0.30"},
	renewed:  []string{"0.20"}, // indexer.wk was a linear of its own
	vendors:  func(Layout) []string { return []string{"huawei"} },
	layouts:  []Layout{AscendLayout},
	resolve:  resolveAscend,
	flags: func(c cell) []string {
		var f []string
		if c.Layout == AscendLayout {
			f = append(f, "--quantization ascend")
		}
		switch {
		case (c.IndexerC8 || c.LatentC8) && c.release.holds(span{from: "0.23"}):
			var on []string
			if c.IndexerC8 {
				on = append(on, `"enable_sparse_li_c8": true`)
			}
			if c.LatentC8 {
				on = append(on, `"enable_sparse_sfa_c8": true`)
			}
			f = append(f, "--additional-config '{"+strings.Join(on, ", ")+"}'")
		case c.IndexerC8 || c.LatentC8:
			f = append(f, `--additional-config '{"enable_sparse_c8": true}'`)
		case c.CacheC8:
			f = append(f, "--kv-cache-dtype int8")
		}
		if c.splitVision() {
			f = append(f, "--mm-encoder-tp-mode data")
		}
		return f
	},
	drafts: ascendDrafts,

	forms:   ascendForms,
	schemes: ascendSchemes,

	rules: []rule{
		// _should_skip_indexer_init: before it the layers that borrow an indexer
		// ask for one of their own.
		{applies: func(c cell) bool { return c.Config.SharedSelection() }, during: span{until: "0.23"}, check: func(cell) string {
			return "layers that share an indexer (GLM-5.2, 5.3) load from vllm-ascend 0.23 on; before, they end with KeyError"
		}},
		{applies: func(c cell) bool { return c.Config.SharedSelection() }, during: span{from: "0.23"}, answer: Loads, check: func(cell) string {
			return "layers that share an indexer need vllm-ascend 0.23 or newer"
		}},
		{applies: func(c cell) bool { return c.Config.NestedText() }, answer: Loads, check: func(cell) string {
			return "resolves; GLM-4.5V is not in vllm-ascend's support matrix"
		}},
		{applies: func(c cell) bool { return c.Layout == AscendLayout && c.Experts.int4() }, check: func(c cell) string {
			switch {
			case c.ep:
				return ""
			case c.tp > 16 || 16%c.tp != 0:
				return fmt.Sprintf("scale_bias has 16 columns and does not split over %d ranks; use expert parallelism", c.tp)
			case c.expertWidth()%4 != 0:
				return fmt.Sprintf("expert width per rank %d is no multiple of 4", c.expertWidth())
			}
			return ""
		}},
		{applies: unpackedInt4, check: unpackedFit},
		{applies: unpackedInt4, answer: Differs, check: groupsTaken},
		{applies: func(c cell) bool { return c.Layout == AscendLayout || c.Layout == CompressedTensors }, check: mxPairsFit},
		{applies: func(c cell) bool { return c.Layout == CompressedTensors }, during: mxOfTensors, check: mxDeclaredMixed},
		{applies: func(c cell) bool { return c.CacheC8 }, during: span{until: "0.30"}, answer: NotJudged, check: func(cell) string {
			return "no table says which release before 0.30 reads the scales of an int8 cache (C8) for GLM"
		}},
	},

	misfit: misfitAscend,

	faults: []fault{
		{codes: []string{"shard-invalid", "shard-truncated", "shard-missing", "index-invalid", "config-missing", "config-not-quantized",
			"quant-config-invalid", "consolidated-file", "foreign-names", "lfs-pointer", "file-beside-folder", "file-elsewhere", "mtp-shape", "layer-count",
			"expert-count", "vocabulary", "stale-quantization"}, does: Refuses},
		{codes: []string{"tensor-shape", "companion-shape", "companion-unexpected", "packed-name", "ignored-but-quantized", "weight-encoding", "group-mixed",
			"router-quantized", "embedding-quantized", "head-quantized", "norm-quantized", "indexer-quantized", "kv-b-quantized"}, does: Refuses},
		{codes: []string{"indexer-wk-int8"}, does: Refuses, during: span{from: "0.20"}},
		{codes: []string{"file-size", "hash-mismatch", "index-tensor-missing", "duplicate-tensor", "stale-index", "leftover-shard", "quant-config-stale"},
			does: Differs},
		{codes: []string{"tensor-missing", "router-bias-missing", "mtp-incomplete", "mtp-file-unlisted"}, does: Differs, whole: Refuses},
		{codes: []string{"tensor-dtype", "companion-missing", "companion-dtype", "weight-not-quantized", "experts-mixed", "router-bias-dtype",
			"eh-proj-quantized"}, does: Differs},
		{codes: []string{"scale-nonfinite", "scale-zero", "scale-negative", "scale-unset", "scale-bias-wrong", "offset-nonzero", "code-range",
			"weight-nonfinite", "weight-zero", "zero-region", "weight-constant", "weight-size", "rows-equal"}, does: Differs},
		{codes: []string{"description-name", "description-invalid", "description-entry-missing", "description-scheme", "rot-unflagged", "rot-family"},
			does: Refuses},
		{codes: []string{"description-version"}, does: Refuses, during: keysRead},
		{codes: []string{"description-group-size"}, does: Differs, during: keysRead},
		{codes: []string{"description-mismatch", "description-prefix"}, does: Differs},
		{codes: []string{"rot-missing", "rot-wrong", "rotation-mixed", "static-deq-scale", "static-shared-input", "static-quant-bias", "static-offset",
			"mtp-copy-missing"},
			does: Differs},
	},
}

// misfitAscend: vLLM's loaders, and of its own formats alone codes under the
// name of the weight.
func misfitAscend(x *Misfit) (string, Answer) {
	switch {
	case x.Stored.Quantized() && !x.Built.Weight.Quantized():
		return noScale, Refuses
	case x.Stored.Quantized():
		return otherNames, Refuses
	case x.Layout != AscendLayout && x.Built.Weight.Bits == 4:
		return packedGone, Refuses
	}
	return tookValues, Differs
}

// mxPairsFit: scales of MX are joined in pairs, those of FP4 in linears after
// padding (methods/w8a8_mxfp8.py, w4a4_mxfp4.py: process_weights_after_loading).
func mxPairsFit(c cell) string {
	for i, d := range append([]width{{"expert", c.expertWidth(), c.Experts}}, c.linears()...) {
		w, pair := d.part.Weight, 64
		if i > 0 && w.Bits == 4 {
			pair = 32
		}
		if w.Scale == format.E8M0 && d.n%pair != 0 {
			return fmt.Sprintf("%s width per rank %d is no multiple of %d: scales of groups of 32 are taken in pairs", d.what, d.n, pair)
		}
	}
	return ""
}

// mxDeclaredMixed: inputs are read where the format rounds them by vLLM's list
// (is_activation_quantization_format: MX is not in it) or the declaration is
// one of mixed precision, which one format for all is not.
func mxDeclaredMixed(c cell) string {
	parts := c.quantized()
	for _, k := range parts {
		if k.part.Weight.Scale == format.E8M0 && !slices.ContainsFunc(parts, func(o kept) bool { return !o.part.Weight.SameCodes(k.part.Weight) }) {
			return "vllm-ascend drops the inputs of MX, and then has no class, unless the declaration is mixed-precision (MXFP4 beside MXFP8)"
		}
	}
	return ""
}

// ascendSchemes is the registry of entries (methods/*.py:register_scheme), for
// linears and for experts.
var ascendSchemes = map[string]scheme{
	"FLOAT":                  {linear: always, experts: always},
	"W8A8":                   {linear: always},
	"W8A8_DYNAMIC":           {linear: always, experts: always},
	"W8A8_MIX":               {linear: always, experts: &span{until: "0.27"}},
	"W8A16":                  {linear: always},
	"W4A8_DYNAMIC":           {linear: &span{until: "0.27"}, experts: always},
	"W4A16":                  {experts: always},
	"W4A4_DYNAMIC":           {linear: always},
	"W4A4_FLATQUANT_DYNAMIC": {linear: always},
	"W8A8_MXFP8":             {linear: always, experts: always, on: atlas950},
	"W4A8_MXFP":              {linear: &span{from: "0.21"}, experts: &span{from: "0.21"}, on: atlas950},
	"W4A4_MXFP4":             {linear: &span{from: "0.20"}, experts: &span{from: "0.20"}, on: atlas950},
	"W4A4_MXFP4_FLATQUANT":   {linear: &span{from: "0.20"}, on: atlas950},
	"W8A8FP8_DYNAMIC":        {linear: &span{from: "0.21"}, experts: &span{from: "0.21"}, on: atlas950},
	"W4A16_MXFP4":            {experts: &span{from: "0.23"}, on: atlas950},
}

// keysRead are the releases in which classes of four bits read version and
// group_size of the description.
var keysRead = span{until: "0.27"}

// ReadsKeys reports whether the release reads version and group_size of an
// Ascend description with these entries, and which releases do.
func (r Release) ReadsKeys(entries []string) (reads bool, which string) {
	if r.Engine != Ascend || !slices.ContainsFunc(entries, func(s string) bool { return s == "W4A8_DYNAMIC" }) {
		return false, ""
	}
	last := r.spec.releases[r.spec.index(keysRead.until)-1]
	return r.holds(keysRead), fmt.Sprintf("releases %s to %s", r.spec.releases[0], last)
}

// ascendDrafts: drafts whose steps share the selection of the first one
// (index_share_for_mtp_iteration) are broken in 0.26, 0.27 and after
// (vllm-ascend issue 15864).
func ascendDrafts(c cell) ([]string, string) {
	if c.Config.IndexShareForMTP && c.release.holds(span{from: "0.26"}) {
		return nil, "drafts that share a selection of keys (index_share_for_mtp_iteration) are broken in vllm-ascend 0.26 to 0.30; 0.23 to 0.25 draft"
	}
	method := "mtp"
	if c.Config.SparseAttention() {
		method = "deepseek_mtp"
	}
	return []string{fmt.Sprintf(`--speculative-config '{"method": %q, "num_speculative_tokens": %d}'`, method, c.Config.DraftSteps())}, ""
}
