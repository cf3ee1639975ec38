package companion

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

const sampledOtherwise = "answers are sampled in another way"

// standard settings of generation that transformers takes where a file leaves
// them out (generation/configuration_utils.py of 5.17).
var generationRules = rules{
	keys: map[string]rule{
		"eos_token_id":         {why: "answers end at other tokens", compare: asSet},
		"do_sample":            {why: "answers are sampled or not", absent: "false"},
		"temperature":          {why: sampledOtherwise, absent: `"#1"`},
		"top_p":                {why: sampledOtherwise, absent: `"#1"`},
		"top_k":                {why: sampledOtherwise, absent: `"#50"`},
		"min_p":                {why: sampledOtherwise},
		"typical_p":            {why: sampledOtherwise, absent: `"#1"`},
		"repetition_penalty":   {why: sampledOtherwise, absent: `"#1"`},
		"presence_penalty":     {why: sampledOtherwise},
		"frequency_penalty":    {why: sampledOtherwise},
		"no_repeat_ngram_size": {why: sampledOtherwise, absent: `"#0"`},
		"num_beams":            {why: "answers are searched in another way", absent: `"#1"`},
		"max_new_tokens":       {why: "answers have another limit"},
		"max_length":           {why: "answers have another limit", absent: `"#20"`},
		"min_new_tokens":       {why: "answers have another limit"},
		"min_length":           {why: "answers have another limit", absent: `"#0"`},
		"suppress_tokens":      {why: "tokens are kept out of answers"},
		"begin_suppress_tokens": {
			why: "tokens are kept out of answers",
		},
		"bad_words_ids":                    {why: "tokens are kept out of answers"},
		"sequence_bias":                    {why: sampledOtherwise},
		"guidance_scale":                   {why: sampledOtherwise, absent: `"#1"`},
		"top_h":                            {why: sampledOtherwise},
		"epsilon_cutoff":                   {why: sampledOtherwise, absent: `"#0"`},
		"eta_cutoff":                       {why: sampledOtherwise, absent: `"#0"`},
		"exponential_decay_length_penalty": {why: sampledOtherwise},
		"encoder_repetition_penalty":       {why: sampledOtherwise, absent: `"#1"`},
		"encoder_no_repeat_ngram_size":     {why: sampledOtherwise, absent: `"#0"`},
		"length_penalty":                   {why: "answers are searched in another way", absent: `"#1"`},
		"diversity_penalty":                {why: "answers are searched in another way", absent: `"#0"`},
		"num_beam_groups":                  {why: "answers are searched in another way", absent: `"#1"`},
		"early_stopping":                   {why: "answers are searched in another way", absent: "false"},
		"penalty_alpha":                    {why: sampledOtherwise},
		"dola_layers":                      {why: sampledOtherwise},
		"renormalize_logits":               {why: sampledOtherwise, absent: "false"},
		"remove_invalid_values":            {why: sampledOtherwise, absent: "false"},
		"watermarking_config":              {why: "answers carry a watermark"},
		"max_time":                         {why: "answers have another limit"},
		"forced_bos_token_id":              {why: "answers begin otherwise"},
		"forced_eos_token_id":              {why: "answers end otherwise"},
		"stop_strings":                     {why: "answers end at other texts", compare: asSet},
	},
	ignore: map[string]bool{"transformers_version": true, "_from_model_config": true, "use_cache": true, "output_attentions": true,
		"output_hidden_states": true, "output_scores": true, "return_dict_in_generate": true},
}

// generation compares generation_config.json. A file that is absent says what
// config.json and the engines' defaults say.
func (p pair) generation() ([]Difference, error) {
	const file = "generation_config.json"
	x, y, err := p.read(file)
	if err != nil {
		return nil, err
	}
	a, b := object{}, object{}
	if x != nil {
		if a, err = parseObject(x); err != nil {
			return nil, nil //nolint:nilerr // nothing to compare with
		}
	}
	if y != nil {
		if b, err = parseObject(y); err != nil {
			return []Difference{{File: file, Source: "readable", Result: "not readable", Matters: true, Why: err.Error()}}, nil
		}
	}
	a["eos_token_id"], b["eos_token_id"] = p.endTokens(p.source, a), p.endTokens(p.result, b)
	return generationRules.compare(file, a, b), nil
}

// endTokens are the ids that end an answer: those of the file, else of
// config.json.
func (p pair) endTokens(dir string, o object) any {
	if v := o["eos_token_id"]; v != nil {
		return v
	}
	cfg, err := glm.LoadConfig(dir)
	if err != nil || len(cfg.EOS) == 0 {
		return nil
	}
	list := make([]any, len(cfg.EOS))
	for i, id := range cfg.EOS {
		list[i] = json.Number(jsonInt(id))
	}
	return list
}

func jsonInt(n int) string {
	raw, _ := json.Marshal(n) // an int: cannot fail
	return string(raw)
}

var tokenizerRules = rules{
	keys: map[string]rule{
		"bos_token":                    {why: "templates print it"},
		"eos_token":                    {why: "answers end at another token"},
		"add_bos_token":                {why: "a token is put before every text", absent: "false"},
		"add_eos_token":                {why: "a token is put after every text", absent: "false"},
		"add_prefix_space":             {why: "texts begin with other ids", absent: "false"},
		"do_lower_case":                {why: "text loses its case", absent: "false"},
		"split_special_tokens":         {why: "markers are split into letters", absent: "false"},
		"clean_up_tokenization_spaces": {why: "answers lose spaces", absent: "false"},
	},
	ignore: map[string]bool{"chat_template": true, "additional_special_tokens": true, "extra_special_tokens": true, "model_max_length": true,
		"transformers_version": true, "name_or_path": true, "processor_class": true, "backend": true, "is_local": true, "auto_map": true},
}

// sameClasses are names of the class that reads tokenizer.json as it is.
var sameClasses = map[any]bool{nil: true, "PreTrainedTokenizerFast": true, "PreTrainedTokenizer": true, "TokenizersBackend": true}

// tokenizerSettings compares tokenizer_config.json.
func (p pair) tokenizerSettings() ([]Difference, error) {
	const file = "tokenizer_config.json"
	a, b, list, ok, err := p.objects(file, "engines take other settings for the tokenizer")
	if !ok {
		return list, err
	}
	markers := func(dir string, o object) []string { return p.specialTokens(dir, o) }
	if x, y := markers(p.source, a), markers(p.result, b); !slices.Equal(x, y) {
		list = append(list, Difference{File: file, Path: "additional_special_tokens", Source: short(strings.Join(missing(x, y), " ")) + " special",
			Result: short(strings.Join(missing(y, x), " ")) + " special", Matters: true, Why: "other tokens are left out of answers and kept whole in texts"})
	}
	if x, y := limit(a), limit(b); y < x && y < p.positions() {
		list = append(list, Difference{File: file, Path: "model_max_length", Source: jsonInt(x), Result: jsonInt(y), Matters: true,
			Why: "vLLM refuses longer contexts"})
	}
	if x, y := a["tokenizer_class"], b["tokenizer_class"]; x != y && !sameClasses[y] {
		list = append(list, Difference{File: file, Path: "tokenizer_class", Source: value(x), Result: value(y), Matters: true,
			Why: "another class reads tokenizer.json, in its own way"})
	}
	for _, o := range []object{a, b} {
		delete(o, "tokenizer_class")
		delete(o, "added_tokens_decoder") // specialTokens
		for _, key := range []string{"bos_token", "eos_token"} {
			if o[key] != nil {
				o[key] = tokenText(o[key])
			}
		}
	}
	return append(list, tokenizerRules.compare(file, a, b)...), nil
}

// value is a value as JSON, shortened.
func value(v any) string {
	if v == nil {
		return absent
	}
	raw, _ := json.Marshal(v) // decoded from JSON: cannot fail
	return short(string(raw))
}

// positions is the context that the result's config.json allows.
func (p pair) positions() int {
	cfg, err := glm.LoadConfig(p.result)
	if err != nil {
		return 0
	}
	return cfg.MaxPositions
}

// limit is model_max_length where it says something.
func limit(o object) int {
	const none = 1 << 40
	n, ok := o["model_max_length"].(json.Number)
	if !ok {
		return none
	}
	if v, err := n.Int64(); err == nil && v > 0 {
		return int(min(v, none))
	}
	return none // 1e30 and the like
}

// specialTokens are the markers of a tokenizer: those that either file says to
// be special.
func (p pair) specialTokens(dir string, o object) []string {
	var out []string
	for _, key := range []string{"additional_special_tokens", "extra_special_tokens"} {
		switch v := o[key].(type) {
		case []any:
			for _, t := range v {
				out = append(out, tokenText(t))
			}
		case map[string]any:
			for _, t := range v {
				out = append(out, tokenText(t))
			}
		}
	}
	if byID, ok := o["added_tokens_decoder"].(map[string]any); ok {
		for _, t := range byID {
			if m, ok := t.(map[string]any); ok && m["special"] == true {
				out = append(out, tokenText(m))
			}
		}
	}
	if raw, err := read(dir, tokenizerFile); err == nil && raw != nil {
		var f struct {
			AddedTokens []addedToken `json:"added_tokens"`
		}
		if json.Unmarshal(raw, &f) == nil {
			for _, t := range f.AddedTokens {
				if t.Special {
					out = append(out, t.Content)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// missing are the elements of a that b lacks, or a word for none.
func missing(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return []string{"no further token"}
	}
	return out
}

// preprocessors compares what prepares pictures and clips. transformers 5
// keeps the settings of both in processor_config.json.
func (p pair) preprocessors() (out []Difference, err error) {
	for _, f := range []struct{ file, part string }{
		{"preprocessor_config.json", "image_processor"}, {"video_preprocessor_config.json", "video_processor"},
	} {
		a, errA := preprocessor(p.source, f.file, f.part)
		b, errB := preprocessor(p.result, f.file, f.part)
		switch {
		case errA != nil || a == nil:
			continue // nothing to compare with
		case errB != nil && !errors.Is(errB, fs.ErrNotExist):
			out = append(out, Difference{File: f.file, Source: "readable", Result: "not readable", Matters: true, Why: errB.Error()})
		case b == nil:
			out = append(out, Difference{File: f.file, Source: "there", Result: absent, Matters: true, Why: "pictures cannot be prepared without it"})
		default:
			out = append(out, preprocessorRules.compare(f.file, a, b)...)
		}
	}
	return out, nil
}

var preprocessorRules = rules{
	keys: map[string]rule{
		"do_rescale":     {why: preparesOtherwise, absent: "true"},
		"do_normalize":   {why: preparesOtherwise, absent: "true"},
		"do_resize":      {why: preparesOtherwise, absent: "true"},
		"do_convert_rgb": {why: preparesOtherwise, absent: "true"},
		"rescale_factor": {why: preparesOtherwise, absent: canonical(json.Number("0.00392156862745098"))},
		"resample":       {why: preparesOtherwise, absent: `"#3"`},
		"do_sample_frames": {
			why: preparesOtherwise, absent: "true",
		},
	},
	unknown: func(string, any, any) string { return preparesOtherwise },
	ignore: map[string]bool{"image_processor_type": true, "video_processor_type": true, "processor_class": true, "auto_map": true, "device": true,
		"return_tensors": true, "disable_grouping": true, "feature_extractor_type": true, "data_format": true, "input_data_format": true,
		"transformers_version": true, "return_metadata": true, "default_to_square": true, "_processor_class": true, "is_fast": true},
}

const preparesOtherwise = "pictures are prepared in another way"

func preprocessor(dir, file, part string) (object, error) {
	raw, err := read(dir, file)
	if err != nil {
		return nil, err
	}
	if raw != nil {
		return parseObject(raw)
	}
	raw, err = read(dir, "processor_config.json")
	if err != nil || raw == nil {
		return nil, err
	}
	o, err := parseObject(raw)
	if err != nil {
		return nil, err
	}
	m, _ := o[part].(map[string]any)
	return m, nil
}
