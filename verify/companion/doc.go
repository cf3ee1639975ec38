// Package companion compares what lies beside the weights of two checkpoints
// by meaning: config.json, tokenizer, chat template, generation settings and
// preprocessors.
//
//	list, err := companion.Compare(ctx, "GLM-4.5-Air", "Air-w8a8")
//	for _, d := range list {
//		if d.Matters { … d.File, d.Path, d.Source, d.Result, d.Why }
//	}
//
// [Examine] looks at those of one checkpoint: whether engines can read them, and
// whether ids, template and patches fit the model.
//
// These files decide answers as much as weights do: one merge rule in another
// place gives other ids, one line of a template another prompt, one eos id an
// answer that does not end. What changes ids, prompts, pictures, the model that
// an engine builds, or how answers are sampled and ended, matters; the rest is
// a note. Neither counts that says the same in other words: key order and
// white space, keys that are absent where the default is meant, the naming
// generations of transformers 4 and 5, and what training leaves behind
// (use_cache, transformers_version).
//
// Sources: transformers 5.17 tokenization_utils_base.py, generation/
// configuration_utils.py; vLLM 0.32 config/model.py (eos and sampling defaults
// of generation_config.json, model_max_length); docs/facts/families.md.
package companion
