package glm

// parseDense decides which layers have a dense MLP: mlp_layer_types if
// present, else the first first_k_dense_replace (docs/facts/families.md 1.1).
func (c *Config) parseDense(o object) {
	dense := make([]bool, c.Layers)
	c.Dense = dense
	if !o.has("mlp_layer_types") {
		for i := range o.size("first_k_dense_replace", 0, c.Layers) {
			dense[i] = true
		}
		return
	}
	types := o.texts("mlp_layer_types")
	if len(types) != c.Layers {
		o.invalid("mlp_layer_types", "it has %d entries, and num_hidden_layers is %d: one of the two is another model's (the MTP layer is in neither)", len(types), c.Layers)
		return
	}
	for i, t := range types {
		switch t {
		case "dense":
			dense[i] = true
		case "sparse":
		default:
			o.unsupported("mlp_layer_types", "", "entry %d is %q, neither dense nor sparse", i, t)
			return
		}
	}
	if o.has("first_k_dense_replace") {
		k := o.sizeOr("first_k_dense_replace", 0, 0, c.Layers)
		for i := range dense {
			if dense[i] != (i < k) {
				c.note("mlp_layer_types and first_k_dense_replace = %d disagree at layer %d; mlp_layer_types is followed", k, i)
				return
			}
		}
	}
}

// parseIndexer reads the sparse-attention indexer and its schedule:
// indexer_types, else index_topk_pattern, else frequency and offset
// (docs/facts/families.md 1.4).
func (c *Config) parseIndexer(o object) {
	c.IndexHeads = o.size("index_n_heads", 1, maxHeads)
	c.IndexHeadDim = o.size("index_head_dim", 1, maxHeadDim)
	c.IndexTopK = o.size("index_topk", 1, 1<<31-1)
	c.IndexerInterleaved = o.boolOr("indexer_rope_interleave", false)
	c.IndexShareForMTP = o.boolOr("index_share_for_mtp_iteration", false)
	if c.IndexHeadDim < c.QKRopeHeadDim {
		o.invalid("index_head_dim", "less than the %d rotated dimensions (qk_rope_head_dim)", c.QKRopeHeadDim)
	}

	// What vLLM reads: the pattern, else frequency and offset, never the list.
	engine, key := c.indexerPattern(o), "index_topk_pattern"
	if engine == nil {
		engine, key = c.indexerFrequency(o), "index_topk_freq"
	}
	if *o.err != nil {
		return
	}
	c.IndexerFull = engine
	if o.has("indexer_types") {
		key = "indexer_types"
		list := o.texts(key)
		if len(list) != c.Layers {
			o.invalid(key, "it has %d entries, and num_hidden_layers is %d: one of the two is another model's (the MTP layer is in neither)", len(list), c.Layers)
			return
		}
		full := make([]bool, c.Layers)
		for i, t := range list {
			if t != "full" && t != "shared" {
				o.unsupported(key, "", "entry %d is %q, neither full nor shared", i, t)
				return
			}
			full[i] = t == "full"
		}
		for i := range full {
			if full[i] != engine[i] {
				c.note("indexer_types disagrees with index_topk_freq, index_skip_topk_offset or index_topk_pattern at layer %d; "+
					"vLLM does not read indexer_types and would build other indexers", i)
				break
			}
		}
		c.IndexerFull = full
	}
	if !c.IndexerFull[0] {
		o.invalid(key, "layer 0 has no indexer and no earlier layer to share one with")
	}
}

func (c *Config) indexerPattern(o object) []bool {
	if !o.has("index_topk_pattern") {
		return nil
	}
	pattern := o.textOr("index_topk_pattern", "")
	if len(pattern) != c.Layers {
		o.invalid("index_topk_pattern", "%d letters for %d layers", len(pattern), c.Layers)
		return nil
	}
	full := make([]bool, c.Layers)
	for i := range pattern {
		if pattern[i] != 'F' && pattern[i] != 'S' {
			o.invalid("index_topk_pattern", "letter %d is neither F nor S", i)
			return nil
		}
		full[i] = pattern[i] == 'F'
	}
	return full
}

func (c *Config) indexerFrequency(o object) []bool {
	freq := o.sizeOr("index_topk_freq", 1, 1, maxLayers)
	offset := o.sizeOr("index_skip_topk_offset", 2, 0, maxLayers)
	full := make([]bool, c.Layers)
	for i := range full {
		full[i] = max(i-offset+1, 0)%freq == 0
	}
	return full
}
