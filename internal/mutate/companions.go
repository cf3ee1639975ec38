package mutate

const (
	tokenizerFile  = "tokenizer.json"
	tokenizerSets  = "tokenizer_config.json"
	generationFile = "generation_config.json"
	templateFile   = "chat_template.jinja"
)

// ofTokenizer are faults of tokenizer.json: other ids, other text.
func ofTokenizer() []Fault {
	in := func(name string, says string, fn func(m map[string]any) bool) Fault {
		return Fault{Name: name, Apply: jsonFile(tokenizerFile, fn), Says: []string{says}}
	}
	added := func(i int, key string, value any) func(m map[string]any) bool {
		return func(m map[string]any) bool {
			list, _ := m["added_tokens"].([]any)
			if len(list) <= i {
				return false
			}
			return set(value, key)(list[i].(map[string]any))
		}
	}
	merges := func(fn func(list []any) []any) func(m map[string]any) bool {
		return func(m map[string]any) bool {
			o := objectAt(m, "model")
			list, _ := o["merges"].([]any)
			if len(list) < 40 {
				return false
			}
			o["merges"] = fn(list)
			return true
		}
	}
	return []Fault{
		in("two merges exchanged", "model.merges", merges(func(l []any) []any { l[7], l[30] = l[30], l[7]; return l })),
		in("the last merges lost", "model.merges", merges(func(l []any) []any { return l[:len(l)-5] })),
		in("no merges", "model.merges", merges(func([]any) []any { return []any{} })),
		in("a merge twice", "model.merges", merges(func(l []any) []any { return append(l[:3:3], l[2:]...) })),
		in("two ids exchanged", "model.vocab", func(m map[string]any) bool {
			v := objectAt(m, "model", "vocab")
			v["a"], v["e"] = v["e"], v["a"]
			return v["a"] != nil
		}),
		in("a token lost", "model.vocab", lose("model", "vocab", "a")),
		in("ignore_merges changed", "tokenizer.json: model", func(m map[string]any) bool {
			o := objectAt(m, "model")
			o["ignore_merges"] = o["ignore_merges"] != true
			return true
		}),
		in("byte_fallback on", "tokenizer.json: model", set(true, "model", "byte_fallback")),
		in("an unknown token", "tokenizer.json: model", set("<|endoftext|>", "model", "unk_token")),
		in("a prefix of pieces", "tokenizer.json: model", set("##", "model", "continuing_subword_prefix")),
		in("another algorithm", "tokenizer.json", set("WordPiece", "model", "type")),
		in("dropout", "tokenizer.json: model", set(0.1, "model", "dropout")),
		in("a normalizer", "normalizer", set(map[string]any{"type": "NFKC"}, "normalizer")),
		in("a normalizer that lowers case", "normalizer", set(map[string]any{"type": "Lowercase"}, "normalizer")),
		in("no pre-tokenizer", "pre_tokenizer", set(nil, "pre_tokenizer")),
		in("numbers split into digits", "pre_tokenizer", func(m map[string]any) bool {
			list, _ := objectAt(m, "pre_tokenizer")["pretokenizers"].([]any)
			if len(list) == 0 {
				return false
			}
			objectAt(m, "pre_tokenizer")["pretokenizers"] = append([]any{map[string]any{"type": "Digits", "individual_digits": true}}, list...)
			return true
		}),
		in("a space before every text", "pre_tokenizer", func(m map[string]any) bool {
			list, _ := objectAt(m, "pre_tokenizer")["pretokenizers"].([]any)
			return len(list) > 1 && set(true, "add_prefix_space")(list[1].(map[string]any))
		}),
		in("parts kept otherwise", "pre_tokenizer", func(m map[string]any) bool {
			list, _ := objectAt(m, "pre_tokenizer")["pretokenizers"].([]any)
			return len(list) > 0 && set("Removed", "behavior")(list[0].(map[string]any))
		}),
		in("a post-processor", "post_processor", set(map[string]any{"type": "TemplateProcessing",
			"single": []any{map[string]any{"SpecialToken": map[string]any{"id": "<|endoftext|>", "type_id": 0}}, map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}},
			"pair":   []any{}, "special_tokens": map[string]any{"<|endoftext|>": map[string]any{"id": "<|endoftext|>", "ids": []any{988}, "tokens": []any{"<|endoftext|>"}}}}, "post_processor")),
		in("no decoder", "decoder", set(nil, "decoder")),
		in("another decoder", "decoder", set(map[string]any{"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true}, "decoder")),
		in("a marker that is not special", "added_tokens", added(0, "special", false)),
		in("a marker that strips to the left", "added_tokens", added(0, "lstrip", true)),
		in("a marker that strips to the right", "added_tokens", added(1, "rstrip", true)),
		in("a marker within words no more", "added_tokens", added(1, "single_word", true)),
		in("a marker with another text", "added_tokens", added(0, "content", "<|the_end|>")),
		in("a marker lost", "added_tokens", func(m map[string]any) bool {
			list, _ := m["added_tokens"].([]any)
			if len(list) > 2 {
				m["added_tokens"] = append(list[:1:1], list[2:]...)
			}
			return len(list) > 2
		}),
		in("a marker more", "added_tokens", func(m map[string]any) bool {
			list, _ := m["added_tokens"].([]any)
			m["added_tokens"] = append(list, map[string]any{"id": 1050, "content": "the", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false})
			return true
		}),
		{Name: "texts cut off", Says: []string{"truncation"}, Notes: true, Apply: jsonFile(tokenizerFile, set(map[string]any{"max_length": 16, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}, "truncation"))},
		{Name: "tokenizer lost", Apply: without(tokenizerFile), Says: []string{tokenizerFile}},
		{Name: "tokenizer cut short", Apply: textFile(tokenizerFile, func(s string) string { return s[:len(s)/2] }), Says: []string{tokenizerFile}},
	}
}

// ofSettings are faults of tokenizer_config.json and generation_config.json.
func ofSettings() []Fault {
	tok := func(name, says string, fn func(m map[string]any) bool) Fault {
		return Fault{Name: "tokenizer: " + name, Apply: jsonFile(tokenizerSets, fn), Says: []string{says}}
	}
	gen := func(name, says string, fn func(m map[string]any) bool) Fault {
		return Fault{Name: "generation: " + name, Apply: jsonFile(generationFile, fn), Says: []string{says}}
	}
	return []Fault{
		tok("another end", "eos_token", set("<|user|>", "eos_token")),
		tok("a begin before every text", "add_bos_token", set(true, "add_bos_token")),
		tok("an end after every text", "add_eos_token", set(true, "add_eos_token")),
		tok("case lost", "do_lower_case", set(true, "do_lower_case")),
		tok("markers split", "split_special_tokens", set(true, "split_special_tokens")),
		tok("spaces cleaned away", "clean_up_tokenization_spaces", set(true, "clean_up_tokenization_spaces")),
		tok("a prefix space", "add_prefix_space", set(true, "add_prefix_space")),
		tok("a shorter context", "model_max_length", set(256, "model_max_length")),
		tok("another class", "tokenizer_class", set("LlamaTokenizer", "tokenizer_class")),
		tok("a begin", "bos_token", set("[gMASK]", "bos_token")),
		tok("a special token more", "special", func(m map[string]any) bool {
			list, _ := m["additional_special_tokens"].([]any)
			m["additional_special_tokens"] = append(list, "the")
			return true
		}),
		{Name: "tokenizer: settings lost", Apply: without(tokenizerSets), Says: []string{tokenizerSets}},
		gen("one end lost", "eos_token_id", set(988, "eos_token_id")),
		gen("another end", "eos_token_id", set([]any{5}, "eos_token_id")),
		gen("sampling", "do_sample", func(m map[string]any) bool { m["do_sample"] = m["do_sample"] != true; return true }),
		gen("temperature", "temperature", set(0.1, "temperature")),
		gen("top_p", "top_p", set(0.5, "top_p")),
		gen("top_k", "top_k", set(3, "top_k")),
		gen("min_p", "min_p", set(0.2, "min_p")),
		gen("repetition penalty", "repetition_penalty", set(1.3, "repetition_penalty")),
		gen("presence penalty", "presence_penalty", set(1.5, "presence_penalty")),
		gen("no repetition", "no_repeat_ngram_size", set(3, "no_repeat_ngram_size")),
		gen("beams", "num_beams", set(4, "num_beams")),
		gen("a limit", "max_new_tokens", set(20, "max_new_tokens")),
		gen("a length", "max_length", set(40, "max_length")),
		gen("tokens kept out", "suppress_tokens", set([]any{10, 11}, "suppress_tokens")),
		gen("words kept out", "bad_words_ids", set([]any{[]any{10}}, "bad_words_ids")),
		gen("a bias on tokens", "sequence_bias", set([]any{[]any{[]any{10}, 5.0}}, "sequence_bias")),
		gen("guidance", "guidance_scale", set(2.0, "guidance_scale")),
		gen("epsilon cutoff", "epsilon_cutoff", set(0.01, "epsilon_cutoff")),
		gen("exponential length", "exponential_decay_length_penalty", set([]any{10, 1.5}, "exponential_decay_length_penalty")),
		gen("begin forced", "forced_bos_token_id", set(12, "forced_bos_token_id")),
		gen("stop texts", "stop_strings", set([]any{"\n"}, "stop_strings")),
		gen("encoder penalty", "encoder_repetition_penalty", set(1.2, "encoder_repetition_penalty")),
		{Name: "generation: cut short", Apply: textFile(generationFile, func(s string) string { return s[:len(s)-4] }), Says: []string{generationFile}},
	}
}

// ofTemplate are faults of the chat template.
func ofTemplate() []Fault {
	in := func(name string, fn func(string) string) Fault {
		return Fault{Name: name, Apply: textFile(templateFile, fn), Says: []string{"chat template", templateFile}}
	}
	return []Fault{
		in("role renamed", replaced("<|user|>", "<|human|>")),
		in("a space more", replaced("<|user|>\n", "<|user|> \n")),
		in("no begin", replaced("[gMASK]<sop>", "")),
		in("thinking always on", replaced("enable_thinking is defined", "false and enable_thinking is defined")),
		in("a branch that few take", replaced("{%- for m in messages %}", "{%- if messages|length > 37 %}{{ 'x' }}{%- endif %}{%- for m in messages %}")),
		in("tools lost", replaced("{%- if tools %}", "{%- if false %}")),
		in("no open turn", replaced("add_generation_prompt", "false")),
		in("cut short", func(s string) string { return s[:len(s)/2] }),
		in("empty", func(string) string { return "" }),
		{Name: "lost", Apply: without(templateFile), Says: []string{"chat template", templateFile}},
		{Name: "overruled by the tokenizer's settings", Apply: func(m Made) (bool, error) {
			hit, err := without(templateFile)(m)
			if !hit || err != nil {
				return hit, err
			}
			return EditJSON(m.Dir, tokenizerSets, set("{% for m in messages %}{{ m.content }}{% endfor %}", "chat_template"))
		}, Says: []string{"chat template", templateFile}},
	}
}

// ofPreprocessor are faults of what prepares pictures and clips.
func ofPreprocessor() []Fault {
	var out []Fault
	for _, file := range []string{"preprocessor_config.json", "video_preprocessor_config.json"} {
		in := func(name, says string, fn func(m map[string]any) bool) {
			out = append(out, Fault{Name: file + ": " + name, Apply: jsonFile(file, fn), Says: []string{says}})
		}
		in("another mean", "image_mean", set([]any{0.5, 0.5, 0.5}, "image_mean"))
		in("another deviation", "image_std", set([]any{0.5, 0.5, 0.5}, "image_std"))
		in("smaller pictures", "longest_edge", set(20000, "size", "longest_edge"))
		in("no smallest size", "shortest_edge", lose("size", "shortest_edge"))
		in("not rescaled", "do_rescale", set(false, "do_rescale"))
		in("rescaled otherwise", "rescale_factor", set(1.0, "rescale_factor"))
		in("not normalised", "do_normalize", set(false, "do_normalize"))
		in("other patches", "patch_size", set(16, "patch_size"))
		in("other clips", "temporal_patch_size", set(1, "temporal_patch_size"))
		in("merged otherwise", "merge_size", set(4, "merge_size"))
		in("resampled otherwise", "resample", set(2, "resample"))
		in("colours not converted", "do_convert_rgb", set(false, "do_convert_rgb"))
		out = append(out, Fault{Name: file + ": lost", Apply: without(file), Says: []string{file}})
	}
	fps := func(m map[string]any) bool { return set(0.25, "fps")(m) }
	return append(out, Fault{Name: "clips at another rate", Apply: jsonFile("video_preprocessor_config.json", fps), Says: []string{"fps"}},
		Fault{Name: "fewer frames", Apply: jsonFile("video_preprocessor_config.json", set(4, "max_frames")), Says: []string{"max_frames"}})
}
