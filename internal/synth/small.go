package synth

import (
	"encoding/json"
	"fmt"
	"strings"
)

// smallFiles returns the files beside the weights, by name. The tokenizer
// knows single bytes only: enough for tools that copy or open it.
func (p *Plan) smallFiles() map[string][]byte {
	vocab := map[string]int{}
	for i, r := range byteAlphabet() {
		if i < p.Config.VocabSize {
			vocab[string(r)] = i
		}
	}
	files := map[string][]byte{
		"config.json": p.Config.Raw,
		"tokenizer.json": encode(map[string]any{
			"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": []any{}, "normalizer": nil,
			"pre_tokenizer":  map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
			"post_processor": nil,
			"decoder":        map[string]any{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
			"model": map[string]any{"type": "BPE", "dropout": nil, "unk_token": nil, "fuse_unk": false, "ignore_merges": true, "vocab": vocab,
				"merges": []any{}},
		}),
		"tokenizer_config.json":  encode(map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": p.Config.MaxPositions}),
		"generation_config.json": encode(map[string]any{"eos_token_id": p.Config.EOS, "temperature": 1.0, "top_p": 0.95, "do_sample": true}),
		"chat_template.jinja":    []byte("[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"),
	}
	if v := p.Config.Vision; v != nil {
		pre := map[string]any{"patch_size": v.PatchSize, "temporal_patch_size": v.TemporalPatch, "merge_size": v.MergeSize,
			"image_mean": []float64{0.48145466, 0.4578275, 0.40821073}, "image_std": []float64{0.26862954, 0.26130258, 0.27577711}}
		files["preprocessor_config.json"] = encode(pre)
		files["video_preprocessor_config.json"] = encode(pre)
	}
	return files
}

// byteAlphabet is the usual mapping of bytes to printable runes.
func byteAlphabet() []rune {
	var list []rune
	next := rune(256)
	for b := range rune(256) {
		if (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae {
			list = append(list, b)
			continue
		}
		list = append(list, next)
		next++
	}
	return list
}

func encode(v any) []byte {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("synth: %v", err)) // maps of plain values always encode
	}
	return []byte(b.String())
}
