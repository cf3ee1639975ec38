// Package mtp knows the multi-token-prediction layer of a GLM checkpoint:
// which one it is, what it lacks, and how to supply that.
//
// # The layer
//
// GLM stores its MTP layer as one more decoder layer with the index
// num_hidden_layers. Besides the block it has eh_proj, enorm, hnorm and
// shared_head.norm. Two further tensors are copies of the model's own:
//
//	layers.N.embed_tokens.weight        = embed_tokens.weight   [V, H]
//	layers.N.shared_head.head.weight    = lm_head.weight        [V, H]
//
// GLM-4.5 stores them, GLM-4.6 to 5.3 do not. vLLM and SGLang bind the
// model's own in any case; vllm-ascend needs them in the files for the
// families with latent attention, and the usual script that adds them
// (adjust_weight.py of the vllm-ascend guide) knows one model and one layer.
//
// # Remapping
//
// [NewRemap] reads the headers and decides; [Remap.Apply] writes:
//
//	r, err := mtp.NewRemap("GLM-5", mtp.Options{})
//	fmt.Println(r.Text())
//	err = r.Apply(ctx)
//
// In place, one new file mtp-others.safetensors with the copies appears, and
// then the index is replaced by one that names it. A machine that loses power
// in between has the checkpoint it had before, with one file that no index
// names; running again completes the work. The former index travels inside
// the new one (metadata.glmconv_undo, packed), so [Undo] restores it byte for
// byte.
//
// With Options.Out the directory stays as it is: the result is a new
// directory of hard links (copies where a link is impossible), the new file
// and an index of its own.
//
// A mtp.safetensors that lies beside the shards and is not listed in the
// index, which vLLM would ignore, is listed on the way. A checkpoint of one
// model.safetensors without an index gets one. In an Ascend directory the
// copies get FLOAT entries in quant_model_description.json.
//
// What cannot be done is refused with an [Error]: a family without an MTP
// layer, rotated checkpoints (the copies would have to be rotated as well),
// quantised embeddings.
package mtp
