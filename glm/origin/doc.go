// Package origin says what a folder of weights is where it is not simply the
// checkpoint that its config.json describes: saved by another library, cut off
// by a download, trained without its MTP layer, pruned, resized, copied with
// files of another state. Every command asks it, so that all give one reason
// and one way out.
//
//	findings, err := origin.Look("GLM-4.5-Air-tuned")
//	for _, f := range findings {
//		fmt.Println(f.Error(), f.Hint())
//	}
//
// [Look] reads names of files, config.json and headers; no weights. [Of] does
// the same with what a caller has read already. [Explain] replaces the error
// of a reader by the finding that explains it, if there is one.
// [NotCopied] names files beside the weights that are no part of a model.
//
// # What is recognised
//
// Names: prefixes of PEFT (base_model.model., .base_layer, lora_A and lora_B),
// torch.compile (_orig_mod.), FSDP, DDP and checkpointing wrappers, any other
// prefix before the names of the family's table, the order of name parts of
// earlier vision models, MLX (kv_b_proj split into embed_q and unembed_out,
// switch_mlp), modules merged by an engine, Megatron.
//
// Files: pickles instead of safetensors, Git LFS pointers, control and part
// files of downloads, adapters beside or instead of a model, a file that the
// index names and that lies beside the folder (adjust_weight.py of the
// vllm-ascend guide joins path and name without a slash).
//
// Configuration against tensors: an MTP layer that is declared and not stored,
// counted as a decoder layer, or of another number of experts; a vocabulary
// that was resized; a quantization_config of weights that were since stored in
// full precision; two values of rope_theta.
package origin
