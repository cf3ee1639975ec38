package glm

import "slices"

// indexerRows are the sparse attention indexer; k_norm is a LayerNorm.
var indexerRows = []row{
	{name: "self_attn.indexer.wq_b.weight", role: IndexerQB, shape: "IH*ID QR", when: ifIndexer},
	{name: "self_attn.indexer.wk.weight", role: IndexerK, shape: "ID H", when: ifIndexer},
	{name: "self_attn.indexer.k_norm.weight", role: IndexerKNorm, shape: "ID", when: ifIndexer},
	{name: "self_attn.indexer.k_norm.bias", role: IndexerKNorm, shape: "ID", when: ifIndexer},
	{name: "self_attn.indexer.weights_proj.weight", role: IndexerProj, shape: "IH H", when: ifIndexer},
}

// glmMoeDsa is GLM-5, 5.1, 5.2 and 5.3 (docs/facts/families.md 3.3). From 5.2 on
// only some layers have an indexer; the MTP layer always has one.
var glmMoeDsa = family{
	family:       GlmMoeDsa,
	architecture: "GlmMoeDsaForCausalLM",
	prefix:       "model.",
	latent:       true,
	sparse:       true,
	draftSteps:   3,
	layer:        slices.Concat(mtpInRows, normRows, mlaRows, indexerRows, mlpRows, mtpOutRows),
}
