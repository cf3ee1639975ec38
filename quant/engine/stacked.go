package engine

import "github.com/glmconv/glmconv/glm"

// StackedExperts says what a release makes of experts that are stored as one
// tensor for each projection of a layer (experts.gate_up_proj, experts.down_proj:
// transformers 5). The rule is empty where it loads them
// (docs/facts/engine-vllm.md 4, docs/facts/engine-sglang.md 5).
func (r Release) StackedExperts(f glm.Family) (answer Answer, rule string) {
	const names = "experts.gate_up_proj"
	switch {
	case r.Engine == SGLang && f == glm.GlmMoeDsa, r.Engine == VLLM && f == glm.Glm4Moe:
		return Loads, ""
	case r.Engine == SGLang:
		return Differs, "stacked experts are accepted by the loader of " + string(glm.GlmMoeDsa) + " alone: they are left out without a word, the experts stay unset"
	case f == glm.GlmMoeDsa: // vllm-ascend loads with vLLM's classes
		return Refuses, "KeyError: the model has no parameter " + names + "; experts are stored one by one for it"
	}
	return NotJudged, "no table says whether it loads stacked experts (" + names + ") of " + string(f)
}
