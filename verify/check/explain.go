package check

// Explanation says what leads to a finding, what it does to whoever serves the
// checkpoint, and the way out.
type Explanation struct {
	Code
	Cause  string // how a folder comes to be so
	Remedy string // what to do; never empty
}

// Explain returns the explanation of a code; false: there is no such code.
func Explain(code string) (Explanation, bool) {
	c := byName[code]
	if c == nil {
		return Explanation{}, false
	}
	e := Explanation{Code: *c, Cause: explanations[code].cause, Remedy: explanations[code].remedy}
	if e.Remedy == "" {
		e.Remedy = c.Hint
	}
	return e, true
}

// explanations has every code of the registry, in its order. Without a remedy the
// hint of the code is one.
var explanations = map[string]struct{ cause, remedy string }{
	// Files.
	"temp-file":             {"a conversion or download was stopped before it renamed its file", ""},
	"unfinished-conversion": {"glmconv quantize was stopped, or a part of it has not run yet", ""},
	"manifest-missing": {"another tool made the folder, or the manifest was not copied with it",
		"nothing to do; copy glmconv-manifest.json beside the weights if glmconv made them"},
	"manifest-invalid":      {"the manifest was edited, cut off, or written by something else", ""},
	"manifest-file-missing": {"the folder was copied or downloaded in part", ""},
	"file-size":             {"a download was cut, or the file was written again after the conversion", ""},
	"hash-mismatch":         {"a faulty disk, copy or download, or a tool that changed the file in place", ""},
	"file-not-in-manifest":  {"weights of another run or tool were copied into the folder", ""},
	"beside-unreadable":     {"a download or a copy was cut, or an editor saved the file in another encoding", ""},
	"file-changed": {"a tokenizer, template or config was edited or added after the conversion",
		"nothing to do if the change was meant; glmconv verify compares these files with the source's"},
	"shard-invalid":   {"the file is no safetensors file, or its header was damaged or forged", ""},
	"shard-truncated": {"the download or the copy ended early", ""},
	"shard-missing":   {"the folder was downloaded in part, or shards were renamed", ""},
	"shard-unlisted": {"a tool wrote the file and left the index as it was",
		"list it in the index if its tensors belong to this model, else delete it; glmconv repair DIR deletes it where all of them are in other files"},
	"mtp-file-unlisted": {"the adjust_weight step of a guide wrote the file without the index", ""},
	"index-missing":     {"the index was not copied with the shards", "glmconv repair DIR writes one from the shards' headers"},
	"index-invalid":     {"the file was edited by hand, or cut off", "glmconv repair DIR writes it anew from the shards' headers"},
	"index-tensor-missing": {"index and shards are of two states of the checkpoint",
		"fetch both again, or glmconv repair DIR if the shards are complete"},
	"index-tensor-unlisted": {"index and shards are of two states of the checkpoint",
		"fetch both again, or glmconv repair DIR if the shards are complete"},
	"index-total-size":  {"a tool that changed tensors left the sum as it was", "no engine reads it; write the sum of the tensors' bytes"},
	"duplicate-tensor":  {"shards of two states lie in one folder", "glmconv repair DIR keeps the one that the index names"},
	"consolidated-file": {"the folder also holds Mistral's form of the weights, or a merged file has this name", ""},
	"stale-index":       {"the source's index was copied into the result", ""},
	"leftover-shard":    {"the result was written into a folder that held another model", ""},

	// Where the folder comes from.
	"foreign-names": {"PEFT, torch.compile, FSDP, MLX, Megatron or the like saved the model with its own names",
		"save it again with the names of transformers: merge_and_unload, unwrap, or the tool's export to Hugging Face"},
	"file-missing": {"the weights alone were copied, or downloaded with a pattern such as *.safetensors",
		"copy the files beside the weights from the source"},
	"adapter-file": {"fine-tuning saved its adapter into the model's folder; engines do not apply it from there",
		"merge it into the weights first, or move it to a folder of its own"},
	"adapter-alone": {"PEFT saves the adapter alone; the base model is another repository's",
		"merge it into its base model (PEFT: merge_and_unload), save that and check it"},
	"not-safetensors": {"the model was saved with torch.save, or as GGUF",
		"convert it to safetensors with the tool that made it; glmconv loads no pickle"},
	"lfs-pointer": {"git clone ran without Git LFS", "git lfs pull, or hf download"},
	"download-leftover": {"a downloader was stopped, or keeps its state here",
		"let the download finish, then delete the file; glmconv repair DIR removes it"},
	"file-elsewhere": {"a download stopped before its file had its name, or files were moved or renamed",
		"finish the download, or give the file the place and the name that the index lists"},
	"file-beside-folder": {"adjust_weight.py was given a path without its last slash", "glmconv mtp-remap DIR writes the file into the folder"},
	"mtp-shape": {"the MTP layer was taken from another model",
		"take it from the right base model: glmconv repair DIR --from BASE; or serve without speculative decoding"},
	"layer-count": {"layers were cut, or config.json is of another model",
		"take config.json of the same model, or fetch the missing shards"},
	"expert-count": {"experts were pruned, or config.json is of another model",
		"set n_routed_experts to the number that is stored, or fetch the missing shards"},
	"vocabulary": {"tokens were added and only one of the matrices, or the config, followed",
		"resize embedding and head together and set vocab_size to their rows"},
	"mtp-copy-stale": {"the model was trained on or its vocabulary changed, and the MTP layer kept the old copy",
		"glmconv mtp-remap DIR, or glmconv repair DIR, copies the model's own"},
	"stale-quantization": {"weights were decoded and the config was taken over", "glmconv repair DIR removes the declaration"},
	"rope-two-bases": {"an older and a newer key were both edited, or only one of them",
		"keep the value that the model was trained with in both places"},
	"config-other-model": {"config.json was copied from another release", "take the config.json that belongs to the weights"},
	"config-size":        {"config.json was copied from a larger or smaller release", "take the config.json that belongs to the weights"},
	"config-key-wrong":   {"config.json was edited, or a library wrote its own default", "set the key to what the tensors say"},
	"config-indexers": {"config.json is of GLM-5 and the weights of GLM-5.2, or the reverse, or a library dropped the keys",
		"take indexer_types, index_topk_freq and index_skip_topk_offset of the right config.json"},
	"config-mtp-count": {"num_nextn_predict_layers was set to the number of drafts", "set it to the number of layers that are stored; the number of drafts is an option of the engine"},
	"config-dtype": {"the config was edited, or a tool that computes in float16 wrote it and the weights were not cast",
		"set dtype to what the weights are; converting cannot help"},

	// Files beside the weights.
	"token-ids":            {"the file is of a model of another vocabulary, or was edited", ""},
	"end-tokens":           {"generation_config.json, config.json or the tokenizer is of another model", ""},
	"chat-template":        {"the template was edited, cut off, or is of another model", ""},
	"media-tokens":         {"config.json and tokenizer are of two models", ""},
	"preprocessor-patches": {"the preprocessor's file is of another vision model", ""},

	// Config.
	"config-missing": {"only the weights were copied", ""},
	"config-invalid": {"the file is not JSON, or a size in it is missing or impossible",
		"take it from the source, or from the model's page"},
	"config-key-missing":         {"an older converter or a manual edit dropped it", ""},
	"config-mtp-absent":          {"the checkpoint was saved by a library that does not load the MTP layer", ""},
	"config-mtp-undeclared":      {"config.json was written by a library that does not know the MTP layer", ""},
	"config-not-quantized":       {"the config was copied from the source, or the conversion ended early", ""},
	"config-ascend-quantization": {"the config was copied from a result of another layout", ""},
	"quant-config-invalid": {"a tool wrote a field that engines refuse, or the file was edited",
		"the finding names the field; take the declaration from a checkpoint of the same tool and release"},
	"quant-method-unknown": {"a newer or rarer tool wrote it", "ask the engine: load it and compare its answers with the source's"},
	"quant-method-published": {"ModelOpt, Quark, GPTQ, AWQ or AutoRound wrote it",
		"nothing to do; glmconv verify SRC DIR compares what the model computes"},
	"quant-config-unknown-key": {"a newer release of the tool, or a spelling mistake", ""},
	"quant-config-not-judged": {"the format has options that no GLM release uses",
		"compare what the model computes: glmconv verify SRC DIR"},
	"manifest-scheme": {"config.json was replaced after the conversion", ""},
	"quant-config-suspect": {"a default of another model, or a spelling mistake",
		"the finding names the field and what it leads to; correct it if it was not meant"},
	"quant-config-differs": {"config.json and hf_quant_config.json were written by two tools", ""},
	"quant-config-stale":   {"weights were decoded or replaced and the config was taken over", "glmconv repair DIR removes it"},
	"kv-scale-missing":     {"the converter declared an FP8 cache without calibrating it", ""},
	"kv-scale-undeclared": {"the declaration was lost in a later step",
		"declare them (kv_cache_scheme), or leave them: engines pass over them"},
	"pattern-unused": {"a spelling mistake, another family's names, or a module that this checkpoint does not have",
		"check the names with glmconv inspect --tensors DIR; what the pattern was to exclude may be quantised"},

	"pattern-unjudged": {"a declaration with thousands of expressions, where names or a few expressions would do", "name the modules, or use fewer expressions"},

	// Tensors.
	"tensor-missing": {"a shard was lost, or a converter dropped what it did not know",
		"fetch the shard again; glmconv repair DIR --from BASE takes unquantised tensors from the base model"},
	"tensor-unexpected": {"a training run's buffer, or a newer architecture",
		"delete it if you know it; engines skip it or refuse it"},
	"tensor-shape": {"config.json is of another model, or a converter transposed or padded it",
		"take config.json of the same model, or convert again"},
	"tensor-dtype":      {"a tool cast the tensor when it saved", "convert again from the source without the cast"},
	"companion-missing": {"a converter or a merge dropped scales", "convert again; a scale cannot be derived from codes"},
	"companion-shape": {"the weights are of another granularity (tensor, channel, group, block) than declared",
		"declare what is stored, or convert again"},
	"companion-dtype":       {"a tool cast scales when it saved", "convert again; a scale that was cast has lost bits"},
	"input-scale-unshared":  {"a scale was edited or written for another module, or the two were calibrated on other text", ""},
	"input-scale-changed":   {"a scale was edited, or taken from another conversion", ""},
	"global-scale-unshared": {"each weight was calibrated by itself", ""},
	"bias-cast":             {"the whole model was loaded in F16 before it was saved", ""},
	"companion-unexpected": {"zero points or second scales that the declared format does not have",
		"declare the format that is stored, or convert again"},
	"packed-name": {"weights of one compressed-tensors format with the declaration of another",
		"set \"format\" to what is stored, or convert again"},
	"weight-not-quantized": {"the converter skipped a module and did not list it in ignore",
		"glmconv repair DIR completes the ignore list"},
	"ignored-but-quantized": {"the ignore list is wider than what was left alone", "take the module out of the ignore list"},
	"weight-encoding":       {"config and weights are of two conversions", "take the config of the same conversion"},
	"group-mixed": {"one of q, k, v (or gate and up) was left alone; engines hold them in one matrix",
		"convert again and choose for the group as a whole, as glmconv does"},
	"experts-mixed": {"a pattern or a sensitivity search chose among the experts of one layer",
		"convert again with one scheme for all experts of a layer"},

	// Special tensors.
	"router-bias-missing": {"the converter saved parameters and not buffers",
		"glmconv repair DIR --from BASE takes it from the base model"},
	"router-bias-dtype": {"the whole model was cast to BF16 before it was saved", ""},
	"router-bias-rounded": {"the whole model was cast to BF16 and back",
		"compare with the source; glmconv repair DIR --from BASE takes it from the base model"},
	"router-bias-zero": {"a library built the model anew and did not load the buffer",
		"compare with the source; glmconv repair DIR --from BASE takes it from the base model"},
	"router-quantized":    {"the ignore list missed mlp.gate", "convert again with the router in full precision"},
	"eh-proj-quantized":   {"the ignore list missed the MTP layer", "convert again with eh_proj in full precision"},
	"embedding-quantized": {"a pattern matched too much", "convert again with the embedding in full precision"},
	"head-tied": {"the key was set by a library's default, or the head was trained apart afterwards",
		"set tie_word_embeddings to false; or delete the head if it is the embedding's copy"},
	"head-quantized": {"a pattern matched too much", "convert again with lm_head in full precision"},
	"mtp-copy-quantized": {"mtp-remap ran before a conversion that quantised every linear module",
		"convert again from a source without copies, then glmconv mtp-remap DST"},
	"indexer-wk-int8": {"the converter took indexer.wk for an ordinary linear module",
		"convert again with the indexer's wk in BF16"},
	"indexer-quantized": {"the converter took the indexer for ordinary linear modules",
		"convert again with the indexer in BF16, as the engines build it"},
	"kv-b-quantized": {"the converter took kv_b_proj for an ordinary linear module; engines absorb it into their kernels",
		"convert again with kv_b_proj in BF16 or 128x128 FP8 blocks"},
	"vision-quantized": {"a pattern matched visual modules", "convert again with the vision tower in full precision"},
	"norm-quantized":   {"a pattern matched norms", "convert again; norms have no quantised form"},
	"mtp-incomplete": {"a shard of the last layer was lost, or a converter kept only linear modules",
		"glmconv repair DIR --from BASE"},
	"mtp-copy-missing": {"the release shares embedding and head with the model", ""},
	"mtp-widened": {"adjust_weight.py or a library loaded and saved the layer in F32",
		"harmless but for the bytes; the layer as published is half the size"},

	// Values.
	"scale-nonfinite": {"a weight of the source is NaN or infinite, or a maximum overflowed F16", ""},
	"scale-zero":      {"a scale underflowed in F16 or FP8, or was never written", "convert again with scales in F32 or BF16"},
	"scale-negative": {"codes and scales were negated together, or the bytes are not scales",
		"convert again; engines take the absolute value or not, and differ"},
	"scale-absurd": {"a calibration that saw NaN or nothing, or another tensor's bytes", ""},
	"scale-unset": {"the module never ran while ranges were collected (an expert without tokens)",
		"calibrate with more text, or with glmconv, whose weight scales need none"},
	"scale-not-bf16": {"the converter computed codes for the F32 scale", ""},
	"scale-bias-wrong": {"scales or codes were changed after scale_bias was computed, or it was copied from another weight",
		"convert again; glmconv computes it from the stored codes"},
	"offset-nonzero":     {"an asymmetric conversion was declared as a symmetric one", "convert again symmetrically"},
	"weight-shape-wrong": {"another weight's weight_shape, or a cut or padded weight", "convert again"},
	"code-range": {"int4 codes were written unsigned, or the weight is int8",
		"convert again; the declaration is of another number of bits"},
	"weight-nonfinite": {"training diverged, a merge overflowed, or bytes were damaged",
		"compare the file's SHA-256 with the published one; if it agrees, the model itself is broken"},
	"weight-zero":     {"a hole in a download, a placeholder, or a tensor that a loader never filled", ""},
	"zero-region":     {"a download that was preallocated and not filled, or a lost page of a network disk", ""},
	"weight-constant": {"the weight was initialised and never loaded or trained, or its memory was overwritten", ""},
	"norm-constant":   {"a library that does not know the norm filled it with its initial value", ""},
	"layer-unlike": {"a hole in a download, or a library that made one layer anew and did not load it",
		"compare with the base model; no conversion brings it back"},
	"codes-short": {"scales of another conversion, or codes that a search or a cast changed", ""},

	// Ascend description.
	"description-invalid": {"the file was edited, or cut off", "take it from the same conversion, or convert again"},
	"description-names": {"the quantiser loaded the model under the module names of another library version",
		"rename the entries; the tensors' names are those that engines look for"},
	"description-entry-missing": {"tensors were added (an MTP layer, copies) after the description was written",
		"glmconv repair DIR completes the description"},
	"description-entry-unused": {"tensors were removed or renamed after the description was written",
		"take the entry out, or fetch the tensor if it was lost"},
	"description-mismatch": {"description and weights are of two conversions", "take the description of the same conversion"},
	"description-scheme": {"a newer msmodelslim, or a scheme meant for another kind of module",
		"convert again with a scheme that the engine's release knows: glmconv plan shows them"},
	"description-version":    {"another release of msmodelslim", ""},
	"description-group-size": {"another release of msmodelslim, or per-group int8", ""},
	"description-name":       {"the folder was written by msmodelslim's first interface", ""},
	"description-prefix": {"names such as mlp.gate and mlp.gate_proj, matched by their beginning",
		"take the FLOAT entry out, or convert again"},

	// Rotated folders of msmodelslim.
	"rot-missing":    {"the file was not copied with the shards", ""},
	"rot-unflagged":  {"the description was written by another release or by hand", ""},
	"rot-family":     {"a step meant for GLM-5 ran on another family", ""},
	"rot-wrong":      {"the file is of another model or was cast", ""},
	"rotation-mixed": {"the MTP layer was taken over from a folder that is not rotated", ""},

	"rot-file": {"the folder optional/ was not downloaded, or is of another run", ""},

	// Caches in int8.
	"cache-missing":       {"shards and description are of two conversions", ""},
	"cache-undeclared":    {"the description was written by another release or by hand", ""},
	"cache-half-declared": {"the description was written by hand, or for another model", ""},
	"cache-kind":          {"the adapter's step after saving did not run", ""},
	"cache-rotation":      {"the matrices are of two conversions, or were cast", ""},
	"cache-offset":        {"another number format was stored under this name", ""},

	// Static W8A8.
	"static-deq-scale":    {"the file was written for the other dtype of the model (BF16, F16)", ""},
	"static-shared-input": {"modules that read the same input were calibrated one by one", ""},
	"static-quant-bias":   {"codes or offset were changed after quant_bias was computed", ""},
	"static-offset":       {"another number format was stored under this name", ""},

	// Engines.
	"engine-refuses": {"a size that no parallel degree divides, hardware without kernels, or a format of another engine",
		"the finding quotes the rule; glmconv plan on the source shows schemes that load"},
	"engine-misreads": {"patterns that the engine matches otherwise than the tool meant",
		"the finding names module and pattern; write full names; glmconv repair DIR completes ignore lists"},
}
