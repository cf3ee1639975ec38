package check

import "slices"

// Code is a kind of finding: its stable name, its usual severity, what it
// means and what to do about it.
type Code struct {
	Name     string
	Severity Severity
	Means    string
	Hint     string
}

// codes is the registry. A finding whose code is not here is a programming
// error that the tests catch.
var codes = []Code{
	// Files.
	{"temp-file", Warning, "a temporary file of an interrupted run", "delete it; loaders that glob may read it"},
	{"unfinished-conversion", Error, "the directory says itself that its conversion is not finished", "run glmconv quantize --resume with the same arguments"},
	{"manifest-missing", Info, "there is no glmconv-manifest.json, so bytes cannot be compared with what was written", ""},
	{"manifest-invalid", Error, "glmconv-manifest.json cannot be read", "convert again, or delete it and lose the hash check"},
	{"manifest-file-missing", Error, "the manifest lists a file that is not there", "fetch or convert the file again"},
	{"file-size", Error, "a file is longer or shorter than the manifest says", "fetch or convert the file again"},
	{"hash-mismatch", Error, "a file's SHA-256 is not the manifest's: at least one bit changed after it was written", "fetch or convert the file again"},
	{"file-not-in-manifest", Error, "a weight file that the conversion did not write; loaders that glob read it", "delete it"},
	{"file-missing", Warning, "a file that engines need beside the weights is not there", "copy it from the source"},
	{"beside-unreadable", Error, "a file beside the weights that engines read cannot be read", "copy it from the source"},
	{"file-changed", Info, "a file beside the weights that the conversion did not write", ""},
	{"shard-invalid", Error, "a weight file breaks a rule of the safetensors format", "fetch or convert the file again"},
	{"shard-truncated", Error, "a weight file ends before its last tensor", "the download or the write was cut; fetch or convert the file again"},
	{"shard-missing", Error, "the index names a file that is not there", "fetch it, or convert again"},
	{"shard-unlisted", Error, "a weight file that the index does not name: vLLM and SGLang never read it", "list it in the index or delete it"},
	{"mtp-file-unlisted", Error, "mtp.safetensors is not in the index: vLLM drops it, and speculative decoding runs on nothing", "glmconv mtp-remap lists it"},
	{"index-missing", Warning, "several shards and no index; engines read every *.safetensors", ""},
	{"index-invalid", Error, "the index cannot be read", "convert again"},
	{"index-tensor-missing", Error, "the index names a tensor that its file does not hold", "the index belongs to another state of the directory"},
	{"index-tensor-unlisted", Error, "a listed file holds a tensor the index does not name", "the index belongs to another state of the directory"},
	{"index-total-size", Warning, "metadata.total_size is not the sum of the tensors' bytes", ""},
	{"duplicate-tensor", Error, "two files hold the same tensor; which one counts depends on the loader", "delete the stale file"},
	{"consolidated-file", Error, "a file named consolidated*.safetensors switches vLLM to another format", "rename or delete it"},
	{"stale-index", Error, "model.safetensors.index.json in an Ascend directory hides the quantised shards", "delete it"},
	{"leftover-shard", Error, "a weight file of another state in an Ascend directory: everything that ends in .safetensors is loaded", "delete it"},

	// Where the folder comes from (package origin); hints come with the findings.
	{"foreign-names", Error, "the tensors have another library's names", ""},
	{"adapter-file", Warning, "a LoRA adapter beside the model", ""},
	{"adapter-alone", Error, "a LoRA adapter in place of a model", ""},
	{"not-safetensors", Error, "the weights are in another format", ""},
	{"lfs-pointer", Error, "a file of Git LFS was not fetched", ""},
	{"download-leftover", Warning, "a downloader's control or part file", ""},
	{"file-beside-folder", Error, "a listed file lies beside the folder, not in it", ""},
	{"file-elsewhere", Error, "a listed file is not where the index says, and here in another form", ""},
	{"mtp-shape", Error, "the MTP layer is that of a model of other sizes", ""},
	{"layer-count", Error, "num_hidden_layers is not the number of decoder layers stored", ""},
	{"expert-count", Error, "n_routed_experts is not the number of experts stored", ""},
	{"vocabulary", Error, "embedding, head and vocab_size differ", ""},
	{"mtp-copy-stale", Error, "the MTP layer's copy of embedding or head is not the model's own", ""},
	{"stale-quantization", Error, "config.json says quantised and no tensor is", ""},
	{"scales-left", Error, "weights in full precision with the scales of a quantised release beside them", ""},
	{"rope-two-bases", Error, "a number of the rotary embedding stands twice with two values: engines run two different models", ""},
	{"config-other-model", Error, "config.json is of another family than the tensors", ""},
	{"config-size", Error, "config.json is of a model of another size", ""},
	{"config-key-wrong", Error, "a switch or a count in config.json that all tensors belie", ""},
	{"config-indexers", Error, "config.json and the tensors differ in which layers have an indexer of their own", ""},
	{"config-mtp-count", Error, "config.json declares more MTP layers than are stored", ""},

	// Files beside the weights (package companion).
	{"token-ids", Error, "an id for the end of answers or for padding is beyond the vocabulary", "take the ids of the tokenizer's markers, as in the source"},
	{"end-tokens", Error, "what ends an answer is no marker of the tokenizer", "take eos_token_id of the source: the ids of <|endoftext|>, <|user|> and <|observation|>"},
	{"chat-template", Error, "the chat template prints no prompt", "take the template of the source"},
	{"media-tokens", Error, "the ids that stand for pictures and clips are other tokens of the tokenizer", "take the ids of the source's config.json, or its tokenizer"},
	{"preprocessor-patches", Error, "pictures are cut otherwise than the vision tower reads them", "take the preprocessor's file of the source"},

	// Config.
	{"config-missing", Error, "there is no config.json", "copy it from the source"},
	{"config-invalid", Error, "config.json cannot be understood", ""},
	{"config-key-missing", Warning, "config.json lacks a key that an engine reads", "take it over from the source's config.json"},
	{"config-dtype", Warning, "config.json names another element type than the weights have: engines cast the weights to it and compute in it", "set it to the weights' own type"},
	{"config-mtp-absent", Error, "config.json declares an MTP layer that the files do not hold", "the model serves without speculative decoding; glmconv repair --from takes the layer from the base model, or set num_nextn_predict_layers to 0"},
	{"config-mtp-undeclared", Error, "the files hold an MTP layer that config.json does not declare", "set num_nextn_predict_layers to 1"},
	{"config-not-quantized", Error, "the tensors are quantised and config.json says nothing of it", "the job ended before it wrote the config; convert again"},
	{"config-ascend-quantization", Error, "an Ascend directory whose config.json has a quantization_config", "remove the key; the description file replaces it"},
	{"quant-config-invalid", Error, "the quantization_config breaks a rule of the engines", ""},
	{"quant-method-unknown", Info, "a quantisation that glmconv does not know: its tensors are not checked", ""},
	{"quant-method-published", Info, "another tool's format: its tensors are read and compared with what it declares; what engines make of it is not judged", ""},
	{"quant-config-unknown-key", Warning, "a key of the quantization's declaration that nobody here knows", "if it comes from a newer tool, what it changes is not judged"},
	{"quant-config-not-judged", Warning, "a part of the declaration that is understood and lies outside of what is judged here", ""},
	{"manifest-scheme", Error, "the declaration is of another scheme than the manifest", "take the config that the conversion wrote"},
	{"quant-config-suspect", Warning, "a field of the declaration that is allowed and probably not meant", ""},
	{"quant-config-differs", Warning, "two files declare different quantizations; engines read one of them", "delete the one that is not true"},
	{"quant-config-stale", Error, "config.json declares a quantization that no tensor has: engines cast the weights to codes without scales, or refuse", "remove quantization_config from config.json"},
	{"kv-scale-missing", Warning, "a quantized key-value cache is declared and its scales are not stored; engines take 1.0", "calibrate them, or remove kv_cache_scheme"},
	{"kv-scale-undeclared", Info, "scales of the key-value cache that no kv_cache_scheme declares", ""},
	{"pattern-unused", Warning, "an ignore or target pattern that matches no module of the checkpoint", ""},
	{"pattern-unjudged", Info, "there are more patterns than are tried on every name: whether the last of them match anything is not known", ""},

	// Tensors.
	{"tensor-missing", Error, "a tensor that the family needs is not there; vLLM and SGLang do not notice in a quantised checkpoint", ""},
	{"tensor-unexpected", Warning, "a tensor that no table knows", ""},
	{"tensor-shape", Error, "a tensor's shape is not what config.json implies", ""},
	{"tensor-dtype", Error, "a tensor's element type is not one the engines take here", ""},
	{"companion-missing", Error, "a quantised weight lacks a tensor that belongs to it", ""},
	{"companion-shape", Error, "a scale or its like has a shape the engine's parameter does not have", ""},
	{"companion-dtype", Error, "a scale or its like has an element type the engines misread", ""},
	{"input-scale-unshared", Warning, "modules with one input have different scales of it (NVFP4)", "calibrate them together, or convert again"},
	{"input-scale-changed", Error, "the scale of a module's input is not that of the largest magnitude in the manifest (NVFP4)", "take the tensor that the conversion wrote, or convert again"},
	{"global-scale-unshared", Warning, "weights that engines merge have different global scales (NVFP4)", "glmconv quantize shares them in its default arithmetic"},
	{"bias-cast", Warning, "biases were cast to F16 on the way", "take them over from the source"},
	{"companion-unexpected", Error, "a quantised weight carries a tensor the engines do not expect", ""},
	{"packed-name", Error, "the weight is packed and the config's format is not, or the reverse", ""},
	{"weight-not-quantized", Error, "the config says quantised, the tensor is not: its values are cast to codes and no scale is set", ""},
	{"ignored-but-quantized", Error, "the config says the module is left alone, the tensor is quantised", ""},
	{"weight-encoding", Error, "the tensor is quantised in another way than the config says", ""},
	{"group-mixed", Error, "the members of a fused group are not encoded alike", ""},
	{"experts-mixed", Error, "the experts of one layer are not encoded alike; engines ask the first only", ""},

	// Special tensors.
	{"router-bias-missing", Error, "a router bias (e_score_correction_bias) is lost: other experts are chosen", "convert again from the source with a tool that keeps buffers"},
	{"router-bias-dtype", Error, "a router bias is not F32: its values lie close together and lose what tells them apart", "compare with the model it was made of: what was lost in the source cannot come back by converting; glmconv repair --from takes it from a base model"},
	{"router-bias-rounded", Warning, "every value of an F32 router bias is a BF16 number: it was probably cast on the way", "compare with the source"},
	{"router-bias-zero", Warning, "every value of a router bias is 0, as before training: it was probably lost on the way", "compare with the source; glmconv repair --from takes it from a base model"},
	{"router-quantized", Error, "the router is quantised; no engine builds it so", ""},
	{"eh-proj-quantized", Error, "eh_proj of the MTP layer is quantised: vLLM and SGLang read the codes as BF16 without a word", ""},
	{"embedding-quantized", Error, "the embedding is quantised", ""},
	{"head-quantized", Error, "lm_head is quantised", ""},
	{"head-tied", Warning, "config.json ties head and embedding, and the files hold a head of its own: libraries that tie leave it out", "set tie_word_embeddings to false if the head is the model's"},
	{"mtp-copy-quantized", Warning, "the MTP layer's copy of embedding or head is quantised", ""},
	{"indexer-wk-int8", Error, "indexer.wk is INT8: vLLM and SGLang copy the codes as BF16 and drop the scale", ""},
	{"indexer-quantized", Error, "a tensor of the indexer is quantised that the engines build in BF16", ""},
	{"kv-b-quantized", Error, "kv_b_proj is quantised in a way an engine cannot take", ""},
	{"vision-quantized", Error, "the vision tower is quantised", ""},
	{"norm-quantized", Error, "a norm is quantised", ""},
	{"mtp-incomplete", Error, "tensors of the MTP layer are missing; engines do not notice and drafts are noise", ""},
	{"mtp-copy-missing", Warning, "the MTP layer lacks its copy of the embedding or head; some engines need it", "glmconv mtp-remap adds it"},
	{"mtp-widened", Warning, "MTP weights are stored in F32: twice the bytes for the same values", ""},

	// Values.
	{"scale-nonfinite", Error, "a scale is NaN or infinite; engines do not look", "the source has a NaN or Inf weight there; check it with glmconv check"},
	{"scale-zero", Error, "a scale is zero: its weights are lost", ""},
	{"scale-negative", Error, "a scale is negative where the layout has none", ""},
	{"scale-absurd", Error, "a scale that no values lead to: all of them are rounded to zero, or cut off to one magnitude", "calibrate again, or take the scales out with their declaration"},
	{"scale-unset", Error, "a scale holds the smallest float, the mark of a value that was never set", ""},
	{"scale-not-bf16", Warning, "an F32 scale is no BF16 number; vllm-ascend rounds it, so all weights of the row are off by up to 0.2 %", "convert with glmconv: its codes are computed for the rounded scale"},
	{"scale-bias-wrong", Error, "scale_bias is not what the packed codes and scales give: every output is shifted, silently", ""},
	{"offset-nonzero", Error, "weight_offset is not zero in a symmetric layout", ""},
	{"weight-shape-wrong", Error, "weight_shape does not hold the weight's sizes", ""},
	{"zero-point-wrong", Error, "zero points of a weight that is declared symmetric are not the middle of the range: engines pass over them, the decoder of the tool does not",
		"declare what is stored: checkpoint_format gptq_v2 where all are one too high, sym false where they differ; or convert again"},
	{"order-undeclared", Error, "the columns of a weight are in groups of an order of their own (g_idx), and the declaration says nothing of it: engines pass over the order", "set desc_act to true, or convert again without it"},
	{"code-range", Error, "an int4 code in a byte is outside -8..7, or the group of a column is none of the weight's", ""},
	{"weight-nonfinite", Error, "a weight is NaN or infinite", ""},

	{"weight-zero", Error, "a weight holds nothing but zeros", "the download left a hole, or the weight was never written: fetch the file again and compare its SHA-256"},
	{"zero-region", Error, "a part of a weight is zero in whole pages", "the download left a hole: fetch the file again and compare its SHA-256"},
	{"weight-constant", Error, "a matrix of one value throughout", "fetch the file again, or convert again from the source"},
	{"layer-unlike", Error, "a bias or a gain is zero, or of one value, in one layer, and in the others of the model it is not: it was lost on the way", "fetch the file again, or take it from the base model"},
	{"weight-size", Error, "the values of a matrix are of a size that no trained one has, or far from those of the same weight elsewhere in the model", "compare with the source: glmconv verify"},
	{"rows-equal", Error, "the rows of a matrix are equal", "fetch the file again, or convert again from the source"},
	{"norm-constant", Warning, "a norm has one value throughout: it was perhaps never trained, or never loaded when the model was saved", "compare with the base model"},

	{"codes-short", Warning, "the codes of some scales stay far from the end of their range: scales that come from a maximum bring one code there, so codes and scales are not of one conversion",
		"compare with the source: glmconv verify"},

	// Ascend description.
	{"description-invalid", Error, "quant_model_description.json cannot be read", ""},
	{"description-names", Error, "the description's entries have other names than the tensors", "write the entries with the tensors' names, or convert again"},
	{"description-entry-missing", Error, "a tensor without an entry: vllm-ascend raises KeyError, SGLang silently takes it for BF16", ""},
	{"description-entry-unused", Warning, "an entry says that a tensor is quantised, and there is no such tensor", ""},
	{"description-mismatch", Error, "the description says another scheme than the tensor has", ""},
	{"description-scheme", Error, "a scheme that the engines do not know for this kind of module", ""},
	{"description-version", Error, "version is not \"1.0.0\": some releases of vllm-ascend expect unpacked int4 then", "set it to \"1.0.0\""},
	{"description-group-size", Error, "group_size does not fit the entries: where it is not 0, some releases of vllm-ascend expect second scales of four bits; MX has groups of 32", "set it to 0, to 32 with MX"},
	{"description-name", Error, "the description has the name of msmodelslim's first interface, which engines do not read", "rename it to quant_model_description.json"},
	{"description-prefix", Error, "an entry's name extends another module's and says FLOAT: the engine takes both for FLOAT", ""},

	// Rotated folders of msmodelslim.
	{"rot-missing", Error, "a rotated model has no rot.weight, by which its drafts' input is turned: acceptance falls without a word", "fetch rot.safetensors, or serve without speculative decoding"},
	{"rot-unflagged", Error, "rot.weight is there and the description does not say is_rot_used: the draft has no place for it", "set is_rot_used to true in the description"},
	{"rot-family", Error, "rot.weight or is_rot_used in a family whose draft has no such parameter", "delete both"},
	{"rot-wrong", Error, "rot.weight cannot be the rotation of this model", "fetch rot.safetensors again"},
	{"rotation-mixed", Error, "the trunk is rotated and the MTP layer is not, or the reverse: they do not belong together", "take the MTP layer of the same folder, or serve without speculative decoding"},

	{"rot-file", Warning, "optional/quarot.safetensors is not the rotation of this model: drafts that are turned by it (EAGLE3) read wrong states", "fetch it again"},

	// Caches in int8.
	{"cache-missing", Error, "a cache is declared to be in int8 and lacks a tensor: engines start with what happens to be there, or with 1 and 0", "fetch or convert the file again"},
	{"cache-undeclared", Error, "tensors of an int8 cache that the description does not name: the engine has no parameter for them", "take the description of the same conversion"},
	{"cache-half-declared", Warning, "the description names the indexer's int8 cache for the model or for its layers and not for both, as published folders do: which of them an engine asks for is not known", "take the description of the same conversion"},
	{"cache-kind", Error, "a kind of cache that no engine knows", "INT8_DYNAMIC is what msmodelslim writes after saving"},
	{"cache-rotation", Error, "q_rot and k_rot of an int8 index cache are not one rotation: other keys are selected", "fetch or convert the file again"},
	{"cache-offset", Error, "kv_cache_offset is not an integer of 8 bits", "calibrate again"},

	// Static W8A8.
	{"static-deq-scale", Error, "deq_scale is not of the type that the engine reads for the model's dtype, not a positive number, or not the product of the scales beside it (W8A8_MIX)", "fetch or convert the file again"},
	{"static-shared-input", Error, "modules that the engine fuses have different input scales or offsets: those of the last one hold for all", "calibrate them together"},
	{"static-quant-bias", Error, "quant_bias is not what codes and input offset give: every output is shifted", "fetch or convert the file again"},
	{"static-offset", Error, "input_offset is not an integer of 8 bits", "calibrate again"},

	// Engines.
	{"engine-refuses", Warning, "the engine does not load the directory", ""},
	{"engine-misreads", Error, "the engine resolves a module otherwise than the tensors are", ""},
}

// Codes returns every code, in the order of the documentation.
func Codes() []Code { return slices.Clone(codes) }

var byName = func() map[string]*Code {
	m := make(map[string]*Code, len(codes))
	for i := range codes {
		m[codes[i].Name] = &codes[i]
	}
	return m
}()
