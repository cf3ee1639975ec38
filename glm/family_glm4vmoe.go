package glm

import "slices"

// glm4vMoe is GLM-4.5V and 4.6V (docs/facts/families.md 3.2). The published ones
// have no MTP layer; a fine-tune that declares one has it below the text
// model's prefix. The width of a block's MLP is out_hidden_size; only the
// merger uses the vision intermediate_size.
var glm4vMoe = family{
	family:       Glm4vMoe,
	architecture: "Glm4vMoeForConditionalGeneration",
	nested:       true,
	prefix:       "model.language_model.",
	layer:        slices.Concat(mtpInRows, normRows, gqaRows, mlpRows, mtpOutRows),
	vision: []row{
		{name: "model.visual.patch_embed.proj.weight", role: VisionConv, shape: "Hv C T P P"},
		{name: "model.visual.patch_embed.proj.bias", role: VisionConv, shape: "Hv"},
		{name: "model.visual.embeddings.position_embedding.weight", role: VisionPosEmbd, shape: "N*N Hv"},
		{name: "model.visual.post_conv_layernorm.weight", role: VisionNorm, shape: "Hv"},
		{name: "model.visual.blocks.{B}.norm1.weight", role: VisionNorm, shape: "Hv"},
		{name: "model.visual.blocks.{B}.norm2.weight", role: VisionNorm, shape: "Hv"},
		{name: "model.visual.blocks.{B}.attn.qkv.weight", role: VisionLinear, shape: "3*Hv Hv"},
		{name: "model.visual.blocks.{B}.attn.proj.weight", role: VisionLinear, shape: "Hv Hv"},
		{name: "model.visual.blocks.{B}.mlp.gate_proj.weight", role: VisionLinear, shape: "O Hv"},
		{name: "model.visual.blocks.{B}.mlp.up_proj.weight", role: VisionLinear, shape: "O Hv"},
		{name: "model.visual.blocks.{B}.mlp.down_proj.weight", role: VisionLinear, shape: "Hv O"},
		{name: "model.visual.post_layernorm.weight", role: VisionNorm, shape: "Hv"},
		{name: "model.visual.downsample.weight", role: VisionConv, shape: "O Hv G G"},
		{name: "model.visual.downsample.bias", role: VisionConv, shape: "O"},
		{name: "model.visual.merger.proj.weight", role: VisionLinear, shape: "O O"},
		{name: "model.visual.merger.post_projection_norm.weight", role: VisionNorm, shape: "O"},
		{name: "model.visual.merger.post_projection_norm.bias", role: VisionNorm, shape: "O"},
		{name: "model.visual.merger.gate_proj.weight", role: VisionLinear, shape: "Iv O"},
		{name: "model.visual.merger.up_proj.weight", role: VisionLinear, shape: "Iv O"},
		{name: "model.visual.merger.down_proj.weight", role: VisionLinear, shape: "O Iv"},
	},
}
