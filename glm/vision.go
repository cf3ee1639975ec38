package glm

// parseVision reads vision_config and the special token ids of glm4v_moe
// (docs/facts/families.md 1.3). Ids are -1 when absent.
func (c *Config) parseVision(top object) {
	o := top.sub("vision_config")
	v := &VisionConfig{
		Depth:            o.size("depth", 1, maxLayers),
		HiddenSize:       o.size("hidden_size", 1, maxWidth),
		Heads:            o.size("num_heads", 1, maxHeads),
		InChannels:       o.sizeOr("in_channels", 3, 1, 64),
		ImageSize:        o.size("image_size", 1, 1<<14),
		PatchSize:        o.size("patch_size", 1, 1<<10),
		TemporalPatch:    o.sizeOr("temporal_patch_size", 2, 1, 64),
		MergeSize:        o.sizeOr("spatial_merge_size", 2, 1, 64),
		OutHiddenSize:    o.size("out_hidden_size", 1, maxWidth),
		IntermediateSize: o.size("intermediate_size", 1, maxWidth),
		RMSNormEps:       o.numberOr("rms_norm_eps", 1e-5),
		ImageTokenID:     top.sizeOr("image_token_id", -1, 0, maxVocab),
		VideoTokenID:     top.sizeOr("video_token_id", -1, 0, maxVocab),
		ImageStartID:     top.sizeOr("image_start_token_id", -1, 0, maxVocab),
		ImageEndID:       top.sizeOr("image_end_token_id", -1, 0, maxVocab),
		VideoStartID:     top.sizeOr("video_start_token_id", -1, 0, maxVocab),
		VideoEndID:       top.sizeOr("video_end_token_id", -1, 0, maxVocab),
	}
	c.Vision = v
	if *o.err != nil {
		return
	}
	if v.HiddenSize%v.Heads != 0 {
		o.invalid("num_heads", "does not divide hidden_size = %d", v.HiddenSize)
	}
	if v.ImageSize%v.PatchSize != 0 {
		o.invalid("patch_size", "does not divide image_size = %d", v.ImageSize)
	}
	if v.OutHiddenSize != c.HiddenSize {
		o.invalid("out_hidden_size", "the text model's hidden_size is %d", c.HiddenSize)
	}
	if o.boolOr("attention_bias", false) {
		o.unsupported("attention_bias", "", "the known vision towers have no attention biases")
	}
	if o.textOr("hidden_act", "silu") != "silu" {
		o.unsupported("hidden_act", "", "every published GLM uses silu; other activations are not implemented")
	}
}
