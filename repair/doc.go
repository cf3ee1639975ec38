// Package repair puts right what can be put right of a checkpoint without
// converting it.
//
//	p, err := repair.NewPlan(ctx, "GLM-4.5-Air-tuned", repair.Options{Base: "GLM-4.5-Air"})
//	fmt.Print(p.Text())
//	err = p.Apply(ctx)
//
// [NewPlan] reads configs, indexes, headers, router biases and the MTP layer's
// copies and lists what it would do: rebuild the index, keep one of two equal
// names, take missing tensors (a lost MTP layer, those of a missing shard) and
// router biases in F32 from the base model, renew copies of embedding and head
// that differ from the model's own, put back those that an Ascend folder of
// latent attention lacks, remove a quantization_config that no tensor bears out,
// complete an ignore list or an Ascend description, take away
// adapters and what downloads left. What it cannot do it lists with the reason.
//
// A quantized folder takes what is not quantized in it from a base model in full
// precision, and the MTP layer, which is then left out of the declaration; codes
// and scales only from a base that is quantized alike. Nothing is taken across a
// rotation but router biases.
//
// [Plan.Apply] writes new files beside the old ones, moves the old ones into
// the folder .glmconv-repair with a receipt, and gives the new ones their
// names, the index last. [Undo] puts everything back; a machine that loses
// power in between is put back by it too, and by the next repair before it
// decides what to do. A manifest is rewritten with what was
// changed. A shard is written anew only if a tensor in it changes; one piece
// of a tensor is in memory at a time. [Plan.Into] leaves the folder as it is and
// makes a new one.
package repair
