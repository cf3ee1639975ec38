// Package vision turns pictures and clips into what a glm4v_moe model reads:
// patches, token ids with expanded placeholders, and rope positions of three
// axes. It mirrors the reference processors Glm4vProcessor (GLM-4.5V) and
// Glm46VProcessor (GLM-4.6V): docs/facts/families.md 6.
//
// The steps are
//
//	Processor  the checkpoint's preprocessor_config.json and video_preprocessor_config.json
//	Still      size rule, antialiased bicubic resize, normalisation, patches of a picture
//	Clip       the same for sampled frames of a clip, with a timestamp per temporal patch
//	Prepare    placeholders of a prompt replaced, positions and rope delta: Inputs
//
// Package runtime runs the vision tower over Inputs and puts its rows in the
// place of the placeholders' embeddings.
package vision
