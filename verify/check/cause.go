package check

import (
	"fmt"
	"maps"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
)

// layoutName says in a few words how the weights lie.
func (s *subject) layoutName() string {
	if s.model == nil {
		return "unknown"
	}
	count := map[kind]int{}
	for _, m := range s.modules {
		if m.row.Role.IsLinear() {
			count[m.form.kind]++
		}
	}
	name := func(k kind) string {
		switch k {
		case fp8Channel, fp8Block:
			return "compressed-tensors " + kindNames[k]
		case fp8BlockInv:
			return "HF FP8 block"
		case mxfp8:
			if s.ascend {
				return "Ascend " + kindNames[k]
			}
			return "compressed-tensors " + kindNames[k]
		case int8Channel, int4Bytes, int4Packed, int8Packed, nvfp4, nvfp4Local, mxfp4:
			return "compressed-tensors " + kindNames[k]
		case ascendInt8, ascendInt4, ascendStatic, ascendMix, ascendMX4:
			return "Ascend " + kindNames[k]
		}
		return kindNames[k]
	}
	best := absent
	for k := fp8Channel; k <= naked; k++ {
		if count[k] > count[best] || best == absent && count[k] > 0 {
			best = k
		}
	}
	if best == foreign {
		return s.publishedName()
	}
	if best == absent {
		if s.ascend {
			return "Ascend, full precision"
		}
		return "full precision"
	}
	return name(best)
}

// diagnose names what the directory is, where the findings form a known
// pattern. The order is that of certainty.
func (s *subject) diagnose() {
	r := s.report
	has := r.Has
	count := func(code string) int {
		n := 0
		for _, f := range r.Findings {
			if f.Code == code {
				n++
			}
		}
		return n
	}
	say := func(format string, args ...any) { r.Cause = fmt.Sprintf(format, args...) }
	switch {
	case has("unfinished-conversion"):
		say("an unfinished glmconv conversion: it was stopped before the manifest was written")
	case has("hash-mismatch") && has("mtp-copy-stale"):
		say("bytes changed after the conversion: bad memory, a bad disk, or a copy that was cut")
	case s.originCause(say), s.unreadableCause(say):
	case has("description-name"):
		say("a folder of msmodelslim's first interface: %s has to be renamed to %s", s.description, layout.DescriptionName)
	case has("config-not-quantized") && s.ascendShaped():
		say("a msmodelslim or Ascend job that was stopped before it wrote quant_model_description.json: engines take the codes for weights")
	case has("config-not-quantized") && has("shard-missing"):
		say("a conversion that was stopped between two shards: config.json and index are still the source's")
	case has("config-not-quantized") && s.besideCause(say):
	case has("config-not-quantized"):
		say("a conversion that was stopped between the last shard and config.json (the order of writes of llm-compressor): the shards are quantised, config.json and index are still the source's, and loaders that do not look use the codes without scales")
	case has("quant-config-stale"):
		say("config.json was left over from a quantised release: the weights are full precision and quantization_config says they are not")
	case has("eh-proj-quantized") && has("router-quantized") && (has("embedding-quantized") || has("mtp-copy-quantized") || has("head-quantized")):
		say("the output of llm-compressor (model_free_ptq) without an ignore list: router, eh_proj and embeddings are quantised, which no engine builds; convert again with the ignore list that glmconv writes")
	case has("eh-proj-quantized") && s.codesOnly():
		say("the MTP layer's eh_proj is quantised: engines build it in full precision, vLLM stops at its codes, SGLang drops them where their names are their own and drafts noise; convert again with eh_proj left alone, or serve without speculative decoding")
	case has("eh-proj-quantized"):
		say("the ignore list of the conversion lacked eh_proj: the model loads and drafts are noise")
	case s.ascend && s.lostBiases():
		say("the output of msmodelslim for a model whose router biases are buffers: all %d of them are lost, in file and description, and other experts are chosen than the model was trained with%s", count("router-bias-missing"), widened(has("mtp-widened")))
	case has("stale-index"), has("leftover-shard"):
		say("an Ascend directory with files of another state in it: the engine reads the wrong shards")
	case has("mtp-file-unlisted"):
		say("mtp.safetensors is there and the index does not name it: the model serves without its MTP layer")
	case has("hash-mismatch"), has("file-size"):
		say("bytes changed after the conversion: bad memory, a bad disk, or a copy that was cut")
	case count("weight-zero")+count("zero-region") > 0 && !has("hash-mismatch"):
		say("%d weights are zero or have a hole of zeros: a file that was downloaded or copied in part, with its full size", count("weight-zero")+count("zero-region"))
	case s.reciprocals() > 1:
		say("the scales of %d weights are stored as 1/scale: another tool divides by them, engines multiply", s.reciprocals())
	case has("weight-not-quantized") && s.onlyMTP("weight-not-quantized") && s.codesOnly():
		say("the MTP layer is full precision and the config does not say so: engines build it for codes: vLLM stops with a KeyError or a size mismatch as soon as it drafts, SGLang too or it drafts noise; leave the layer out in the config")
	case has("weight-not-quantized") && s.onlyMTP("weight-not-quantized"):
		say("the MTP layer is full precision and the config does not say so: engines cast it to codes without scales and drafts are noise until the layer is in the ignore list")
	case !has("quant-config-invalid") && s.otherConversion() != nil:
		f := s.otherConversion()
		say("the declaration and the weights are of two conversions: %s: %s", f.Where, f.Detail)
	default:
		for _, f := range r.Findings {
			if f.Severity == Error {
				say("%s: %s", f.Where, byName[f.Code].Means)
				return
			}
		}
	}
}

// besideCause says that the declaration stands where engines do not look.
func (s *subject) besideCause(say func(string, ...any)) bool {
	name, d := s.declaredBeside()
	if d != nil {
		say("the quantization is declared in %s alone, and engines look into config.json: they take the codes for weights, or stop", name)
	}
	return d != nil
}

// otherConversion returns the first weight that is encoded otherwise than it is
// declared, if most of those that are quantized are.
func (s *subject) otherConversion() (first *Finding) {
	odd, all := 0, 0
	for i := range s.report.Findings {
		if f := &s.report.Findings[i]; f.Code == "weight-encoding" {
			if odd++; first == nil {
				first = f
			}
		}
	}
	for _, m := range s.modules {
		if m.form.quantized() && m.row.Role.IsLinear() {
			all++
		}
	}
	if 2*odd <= all {
		return nil
	}
	return first
}

func widened(yes bool) string {
	if yes {
		return "; its MTP layer is stored in F32"
	}
	return ""
}

// lostBiases tells whether every router bias is missing.
func (s *subject) lostBiases() bool {
	missing, all := 0, 0
	for _, row := range s.rows {
		if row.Role == glm.RouterBias {
			all++
			if _, ok := s.tensors[row.Name]; !ok {
				missing++
			}
		}
	}
	return all > 0 && missing == all
}

func (s *subject) ascendShaped() bool {
	for _, m := range s.modules {
		if m.form.kind == ascendInt8 || m.form.kind == ascendInt4 || m.form.kind == ascendStatic || m.form.kind == ascendMix {
			return true
		}
	}
	return false
}

// onlyMTP tells whether all findings of a code concern the MTP layer.
func (s *subject) onlyMTP(code string) bool {
	for _, f := range s.report.Findings {
		if f.Code == code {
			if m := s.byName[f.Where]; m == nil || !m.row.MTP {
				return false
			}
		}
	}
	return true
}

// originCause names what the folder is, if package origin knows it.
func (s *subject) originCause(say func(format string, args ...any)) bool {
	for _, f := range s.report.Findings {
		if f.Severity == Error && slices.Contains(slices.Collect(maps.Values(originCodes)), f.Code) {
			say("%s: %s", f.Where, f.Detail)
			return true
		}
	}
	return false
}

// unreadableCause names the shards that cannot be read: what seems to be
// missing is in them.
func (s *subject) unreadableCause(say func(format string, args ...any)) bool {
	var first *Finding
	lost := s.lostShards()
	for i := range s.report.Findings {
		if f := &s.report.Findings[i]; first == nil && slices.Contains(unreadable, f.Code) {
			first = f
		}
	}
	switch {
	case first == nil:
		return false
	case first.Code == "shard-missing" && s.report.Has("config-not-quantized"):
		return false // a conversion between two shards
	case len(lost) > 1:
		say("%s and %s cannot be read, the first: %s", first.Where, plural(len(lost)-1, "further file"), first.Detail)
	default:
		say("%s cannot be read: %s", first.Where, first.Detail)
	}
	return true
}
