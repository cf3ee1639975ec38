package origin

import (
	"regexp"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/safetensors"
)

// wrapper is a name part that a library puts into the names of what it wraps.
type wrapper struct{ part, who, way string }

var wrappers = []wrapper{
	{"base_model.model.", "PEFT (a LoRA model that was not merged)", wayMerge},
	{".base_layer", "PEFT (a LoRA model that was not merged)", wayMerge},
	{"_orig_mod.", "torch.compile", "save the module that was compiled (model._orig_mod.save_pretrained), or take the prefix out of the names"},
	{"_fsdp_wrapped_module.", "PyTorch FSDP", wayGather},
	{"_checkpoint_wrapped_module.", "PyTorch's activation checkpointing", wayGather},
	{"_forward_module.", "Lightning or DeepSpeed", wayGather},
	{"module.", "DistributedDataParallel or DeepSpeed", wayGather},
}

const (
	wayMerge  = "merge the adapter (PEFT: model.merge_and_unload()), save the model and convert that"
	wayGather = "save the unwrapped model (accelerate: unwrap_model(model).save_pretrained), or take the prefix out of the names"
)

var lora = lazy.Regexp(`\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|modules_to_save|original_module|ia3_l|lora_\w+)(\.|$)`)

// IsAdapterTensor tells whether a name is that of an adapter's weights, or of
// what an adapter replaced.
func IsAdapterTensor(name string) bool { return lora().MatchString(name) }

// catalogue is the family's table by name.
type catalogue struct{ names, modules map[string]bool }

func (f *finder) catalogue() *catalogue {
	c := *f.Config
	c.MTPLayers = max(c.MTPLayers, 1)
	out := &catalogue{map[string]bool{}, map[string]bool{}}
	for _, t := range c.Table() {
		out.names[t.Name], out.modules[t.Module] = true, true
		if t.Role == glm.ExpertGate && t.Expert == 0 {
			a, b := c.StackedExperts(t.Layer)
			out.names[a], out.names[b] = true, true
		}
	}
	return out
}

// knows tells whether a name is one of the table, or a further parameter of a
// module of it.
func (c *catalogue) knows(name string) bool {
	if c.names[name] {
		return true
	}
	m, _ := glm.ModuleOf(name)
	return c.modules[m]
}

// renamed counts what one rewriting explains.
type renamed struct {
	n       int
	example string // as stored
	want    string // as the table calls it
}

// names judges the names of tensors.
func (f *finder) names() {
	if f.Config == nil {
		f.wrapped()
		return
	}
	known := f.catalogue()
	stored := make(map[string]bool, len(f.Tensors))
	var odd []string
	for _, t := range f.Tensors {
		stored[t.Name] = true
		if !known.knows(t.Name) {
			odd = append(odd, t.Name)
		}
	}
	f.mlx()
	if len(odd) == 0 {
		return
	}
	loras, explained := 0, map[string]*renamed{}
	for _, n := range odd {
		if lora().MatchString(n) {
			loras++
			continue
		}
		rule, want := f.rewrite(known, n)
		if rule == "" || stored[want] {
			continue
		}
		if explained[rule] == nil {
			explained[rule] = &renamed{example: n, want: want}
		}
		explained[rule].n++
	}
	before := len(f.out)
	f.sayRenamed(explained, loras)
	f.otherTools(odd)
	if len(f.out) == before && !f.damaged() {
		f.otherNames(odd)
	}
	if len(f.out) == before && 2*len(odd) > len(f.Tensors) && 4*(len(stored)-len(odd)) < len(known.names) && 2*len(stored) > len(known.names) && !f.damaged() {
		slices.Sort(odd)
		f.add(ForeignNames, true, odd[0], "save the model with transformers (save_pretrained), or rename the tensors",
			"%d of %d tensors have names that no table of %s holds, and no tool that is known here: the table begins with %s",
			len(odd), len(f.Tensors), f.Config.Family, f.Config.EmbeddingName())
	}
}

// wrapped judges names without a table to compare them with.
func (f *finder) wrapped() {
	for _, w := range wrappers[:5] {
		for _, t := range f.Tensors {
			if strings.Contains(t.Name, w.part) {
				f.add(ForeignNames, true, t.Name, w.way, "the names carry the part %s of %s", w.part, w.who)
				return
			}
		}
	}
}

// rewrite finds the name of the table that a stored name stands for, and the
// rule that leads there.
func (f *finder) rewrite(known *catalogue, name string) (rule, want string) {
	plain := name
	for _, w := range wrappers {
		if w.part == "module." && !strings.HasPrefix(plain, w.part) {
			continue
		}
		if cut := strings.ReplaceAll(plain, w.part, ""); cut != plain {
			if rule == "" {
				rule = w.part
			}
			plain = cut
		}
	}
	if rule != "" && known.knows(plain) {
		return rule, plain
	}
	for _, o := range orders {
		if o.family != "" && o.family != f.Config.Family {
			continue
		}
		if rest, ok := strings.CutPrefix(plain, o.from); ok && known.knows(o.to+rest) {
			return o.from, o.to + rest
		}
	}
	for i := 0; i < len(plain); i++ {
		if plain[i] == '.' && known.names[plain[i+1:]] {
			return "prefix " + plain[:i+1], plain[i+1:]
		}
	}
	return "", ""
}

// orders are orders of name parts of other versions.
var orders = []struct {
	family   glm.Family // "": any
	from, to string
}{
	{glm.Glm4vMoe, "language_model.model.", "model.language_model."},
	{glm.Glm4vMoe, "model.language_model.model.", "model.language_model."},
	{glm.Glm4vMoe, "language_model.lm_head.", "lm_head."},
	{glm.Glm4vMoe, "model.lm_head.", "lm_head."},
	{glm.Glm4vMoe, "model.language_model.lm_head.", "lm_head."},
	{glm.Glm4vMoe, "language_model.", "model.language_model."},
	{glm.Glm4vMoe, "visual.", "model.visual."},
	{glm.Glm4vMoe, "vision_tower.", "model.visual."},
	{glm.Glm4vMoe, "model.", "model.language_model."},
	{"", "layers.", "model.layers."},
	{"", "embed_tokens.", "model.embed_tokens."},
	{"", "norm.", "model.norm."},
	{"", "transformer.", "model."},
	{"", "model.lm_head.", "lm_head."},
	{"", "model.model.", "model."},
}

// sayRenamed makes one finding of what renaming explains.
func (f *finder) sayRenamed(by map[string]*renamed, loras int) {
	best, total := "", 0
	for rule, r := range by {
		total += r.n
		if best == "" || r.n > by[best].n || r.n == by[best].n && rule < best {
			best = rule
		}
	}
	if loras > 0 {
		if total == 0 {
			f.add(ForeignNames, true, f.firstLora(), wayMerge+"; if it is merged already, take the tensors out of the files",
				"%s of adapters (LoRA) among the model's own: not merged, or left over", plural(loras, "tensor"))
			return
		}
		f.add(ForeignNames, true, f.firstLora(), wayMerge,
			"a LoRA model that was saved by PEFT without merging: %s of adapters, and base_model.model. or .base_layer in the names of %d others", plural(loras, "tensor"), total)
		return
	}
	if best == "" {
		return
	}
	r := by[best]
	if i := slices.IndexFunc(wrappers, func(w wrapper) bool { return w.part == best }); i >= 0 {
		w := wrappers[i]
		f.add(ForeignNames, true, r.example, w.way, "%s with the prefix or name part %s of %s; the table calls it %s", plural(total, "tensor"), w.part, w.who, r.want)
		return
	}
	if prefix, ok := strings.CutPrefix(best, "prefix "); ok {
		f.add(ForeignNames, true, r.example, "save the model itself and not the module around it, or take the prefix out of the names",
			"%s with the prefix %s before the names of %s; the table calls it %s", plural(total, "tensor"), prefix, f.Config.Family, r.want)
		return
	}
	f.add(ForeignNames, true, r.example, "load the folder with the library version that wrote it and save it with a present transformers, or rename the tensors",
		"%s under names of an earlier or another library version (%s instead of %s): the name order differs; it should be %s", plural(total, "tensor"), best, newOrder(best, r), r.want)
}

// newOrder is the start of the right name for a rule.
func newOrder(rule string, r *renamed) string {
	rest := strings.TrimPrefix(r.example, rule)
	return strings.TrimSuffix(r.want, rest)
}

func (f *finder) firstLora() string {
	for _, t := range f.Tensors {
		if lora().MatchString(t.Name) {
			return t.Name
		}
	}
	return ""
}

// tools are marks of tools that store the weights in another form, which no
// renaming undoes.
var tools = []struct {
	mark        func() *regexp.Regexp
	detail, way string
}{
	{
		lazy.Regexp(`\.self_attn\.(embed_q|unembed_out)\.`),
		"saved by MLX: kv_b_proj is split by head into embed_q and unembed_out (the absorbed form of latent attention)",
		"convert the release that MLX was given; nothing of it is lost there",
	},
	{
		lazy.Regexp(`\.mlp\.switch_mlp\.`),
		"saved by MLX: the experts of a layer are stacked in switch_mlp", "convert the release that MLX was given",
	},
	{
		lazy.Regexp(`\.self_attn\.(qkv_proj|fused_qkv_a_proj\w*)\.|\.mlp\.(shared_experts\.)?gate_up_proj\.|\.mlp\.experts\.w(13|2)_weight$`),
		"modules are merged as an engine holds them (q, k and v, or gate and up, in one tensor)",
		"save from the training code or take the release's own files, not an engine's state",
	},
	{
		lazy.Regexp(`\.mlp\.experts\.\d+\.w[123]\.`),
		"experts under Mixtral's names: w1, w3 and w2 are gate_proj, up_proj and down_proj", "rename them, or save with a present transformers",
	},
	{
		lazy.Regexp(`^(blk\.\d+\.|token_embd\.|output_norm\.)`),
		"named as llama.cpp names the tensors of a GGUF file", "convert the safetensors release that the GGUF file was made of",
	},
	{
		lazy.Regexp(`^(decoder\.layers\.|embedding\.word_embeddings|output_layer\.|model\.decoder\.layers\.)`),
		"saved by Megatron under its own names", "export the checkpoint to Hugging Face's form first (Megatron Bridge or mbridge)",
	},
}

// otherTools looks for forms of other tools among names that no table has.
func (f *finder) otherTools(odd []string) {
	for _, t := range tools {
		n, first := 0, ""
		for _, name := range odd {
			if t.mark().MatchString(name) {
				if n++; first == "" {
					first = name
				}
			}
		}
		if n > 0 {
			f.add(ForeignNames, true, first, t.way, "%s; %s", t.detail, plural(n, "tensor"))
		}
	}
}

// mlx notices the declaration and the scales of MLX, whose names are GPTQ's or
// the model's own.
func (f *finder) mlx() {
	if _, mlx := f.Keys["quantization"]; mlx && slices.ContainsFunc(f.Tensors, func(t safetensors.Info) bool { return strings.HasSuffix(t.Name, ".scales") }) {
		f.add(ForeignNames, true, "config.json: quantization", "convert the BF16 release", "quantised by MLX (weights in U32 with scales and biases)")
	}
}
