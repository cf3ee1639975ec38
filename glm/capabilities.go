package glm

// What a model can do, asked instead of its family's name: a new family says
// it in its table, and the code that cares finds out by itself.

// LatentAttention reports whether keys and values are kept as one latent
// vector a token (multi-head latent attention: q_a, q_b, kv_a, kv_b
// projections in place of q, k and v).
func (c *Config) LatentAttention() bool { return families[c.Family].latent }

// SparseAttention reports whether an indexer chooses the keys that a token
// attends to.
func (c *Config) SparseAttention() bool { return families[c.Family].sparse }

// SharedSelection reports whether some layers use the keys that an earlier
// layer's indexer chose.
func (c *Config) SharedSelection() bool {
	for _, own := range c.IndexerFull {
		if !own {
			return true
		}
	}
	return false
}

// NestedText reports whether the text model is one part of a larger one:
// config.json has a text_config, and tensors carry the text model's prefix.
func (c *Config) NestedText() bool { return families[c.Family].nested }

// DraftSteps is how many tokens in a row the MTP layer was trained to draft.
func (c *Config) DraftSteps() int { return max(families[c.Family].draftSteps, 1) }
