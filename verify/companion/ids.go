package companion

import (
	"encoding/json"
	"maps"
	"slices"
)

// added returns the tokens that tokenizer.json, or tokenizer_config.json, adds to
// the model's vocabulary: markers, special or not.
func (t *tokenizerJSON) added(settings object) map[int64]string {
	out := map[int64]string{}
	if byID, ok := settings["added_tokens_decoder"].(map[string]any); ok {
		for id, v := range byID {
			if n, err := json.Number(id).Int64(); err == nil {
				out[n] = tokenText(v)
			}
		}
	}
	for _, a := range t.AddedTokens {
		out[a.ID] = a.Content
	}
	return out
}

// idsOf are the token ids of a key: one, or a list.
func idsOf(v any) (out []int64) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, x := range list {
		if n, ok := x.(json.Number); ok {
			if id, err := n.Int64(); err == nil {
				out = append(out, id)
			}
		}
	}
	return out
}

// listed are the ids of a file under one key.
type listed struct {
	where string
	ids   []int64
}

// lists returns the ids that config.json and generation_config.json have for
// the ends of answers, or for padding.
func (e *alone) lists(ends bool) []listed {
	key, of := "pad_token_id", []int64{}
	if ends {
		key = "eos_token_id"
		for _, id := range e.cfg.EOS {
			of = append(of, int64(id))
		}
	} else if e.cfg.Pad >= 0 {
		of = append(of, int64(e.cfg.Pad))
	}
	return []listed{{"config.json: " + key, of}, {"generation_config.json: " + key, idsOf(e.files["generation_config.json"][key])}}
}

// ranges looks for ids beyond the rows of the embedding.
func (e *alone) ranges() {
	rows := int64(e.cfg.VocabSize)
	for _, l := range e.lists(true) {
		for _, id := range l.ids {
			if id < 0 || id >= rows {
				e.add(TokenIDs, l.where, "it has %d, and vocab_size is %d: no answer ends at it, as no model puts it out", id, rows)
			}
		}
	}
	for _, l := range e.lists(false) {
		for _, id := range l.ids {
			if id >= rows {
				e.add(TokenIDs, l.where, "it is %d, and vocab_size is %d: transformers refuses to build the embedding (padding_idx), and what is padded with it reads beyond the rows", id, rows)
			}
		}
	}
}

// ends compares what ends an answer with the markers of the tokenizer. A
// tokenizer without markers cannot be asked.
func (e *alone) ends() {
	if len(e.added) == 0 {
		return
	}
	names := map[int64]string{}
	for token, id := range e.tok.Model.Vocab {
		names[id] = token
	}
	ending := tokenText(e.files["tokenizer_config.json"]["eos_token"]) // a token of the vocabulary without an entry of its own
	for _, l := range e.lists(true) {
		var odd []int64
		in := 0
		for _, id := range l.ids {
			switch _, marker := e.added[id]; {
			case id < 0 || id >= int64(e.cfg.VocabSize): // ranges
			case marker, names[id] != "" && names[id] == ending:
				in++
			default:
				odd = append(odd, id)
			}
		}
		if len(odd) == 0 {
			continue
		}
		what := "no token of the tokenizer"
		if s, ok := names[odd[0]]; ok {
			what = short(canonical(s)) + ", a piece of ordinary text"
		}
		if in == 0 {
			e.add(EndTokens, l.where, "none of its ids is a marker of tokenizer.json (%d is %s): answers do not end where the model ends them", odd[0], what)
		} else {
			e.add(EndTokens, l.where, "%d is %s, not a marker: answers that hold it end there", odd[0], what).Mild = true
		}
	}
}

// markers looks for tokens that tokenizer_config.json names and tokenizer.json
// does not have: transformers gives them new ids.
func (e *alone) markers() {
	if len(e.added) == 0 {
		return
	}
	known := map[string]bool{}
	for _, text := range e.added {
		known[text] = true
	}
	for _, key := range []string{"eos_token", "pad_token"} {
		text := tokenText(e.files["tokenizer_config.json"][key])
		if _, ok := e.tok.Model.Vocab[text]; text == "" || ok || known[text] {
			continue
		}
		e.add(EndTokens, "tokenizer_config.json: "+key, "%q is no token of tokenizer.json: transformers adds it with a new id, which the model never learnt", text).Mild = true
	}
}

// media compares the ids that stand for pictures and clips with the tokenizer's
// (docs/facts/families.md 7).
func (e *alone) media() {
	v := e.cfg.Vision
	if len(e.added) == 0 {
		return
	}
	byText := map[string]int64{}
	for _, id := range slices.Sorted(maps.Keys(e.added)) {
		byText[e.added[id]] = id
	}
	for _, m := range []struct {
		key, text string
		id        int
	}{
		{"image_token_id", "<|image|>", v.ImageTokenID}, {"video_token_id", "<|video|>", v.VideoTokenID},
		{"image_start_token_id", "<|begin_of_image|>", v.ImageStartID}, {"image_end_token_id", "<|end_of_image|>", v.ImageEndID},
		{"video_start_token_id", "<|begin_of_video|>", v.VideoStartID}, {"video_end_token_id", "<|end_of_video|>", v.VideoEndID},
	} {
		if m.id < 0 {
			continue
		}
		if text, ok := e.files["tokenizer_config.json"][m.key[:len(m.key)-len("_id")]].(string); ok && text != "" {
			m.text = text
		}
		want, there := byText[m.text]
		is, marker := e.added[int64(m.id)]
		switch {
		case there && want == int64(m.id), !there && marker:
			continue
		case there && marker:
			e.add(MediaTokens, "config.json: "+m.key, "it is %d, which is %q in tokenizer.json; %q is %d: %s", m.id, is, m.text, want, lostPictures)
		case there:
			e.add(MediaTokens, "config.json: "+m.key, "it is %d, which is no marker of tokenizer.json; %q is %d: %s", m.id, m.text, want, lostPictures)
		default:
			e.add(MediaTokens, "config.json: "+m.key, "it is %d, which is no marker of tokenizer.json: %s", m.id, lostPictures)
		}
	}
}

const lostPictures = "engines put pictures and clips elsewhere than the prompt has them, or refuse the prompt"

// patches compares how pictures are cut with how the vision tower reads them.
func (e *alone) patches() {
	v := e.cfg.Vision
	for _, f := range []struct{ file, part string }{
		{"preprocessor_config.json", "image_processor"}, {"video_preprocessor_config.json", "video_processor"},
	} {
		file, o := f.file, e.files[f.file]
		if o == nil {
			file = "processor_config.json: " + f.part
			m, _ := e.files["processor_config.json"][f.part].(map[string]any)
			o = m
		}
		for _, k := range []struct {
			key, of string
			want    int
		}{
			{"patch_size", "patch_size", v.PatchSize}, {"merge_size", "spatial_merge_size", v.MergeSize}, {"temporal_patch_size", "temporal_patch_size", v.TemporalPatch},
		} {
			n, ok := o[k.key].(json.Number)
			if !ok {
				continue
			}
			if got, err := n.Float64(); err == nil && got != float64(k.want) {
				e.add(Patches, file+": "+k.key, "it is %s, and vision_config's %s is %d: pictures are cut into patches that the tower does not read", n, k.of, k.want)
			}
		}
	}
}
