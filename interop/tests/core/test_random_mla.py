"""transformers against our runtime on random checkpoints of the latent-attention families; glm4_moe_lite has no trained reference."""
import json
import random

import pytest
import torch
import transformers
from transformers import AutoConfig

import checkpoints as ck
from test_transformers import compare, defined_ties, load  # noqa: F401 a fixture

PEER = "transformers"
transformers.logging.set_verbosity_error()
torch.set_num_threads(2)


def random_config(family, seed):
    r = random.Random(f"{family} {seed}")
    layers, experts, rope = r.randrange(2, 5), r.randrange(3, 9), 2 * r.randrange(2, 9)
    cfg = dict(
        model_type=family, architectures=["GlmMoeDsaForCausalLM" if family == "glm_moe_dsa" else "Glm4MoeLiteForCausalLM"], hidden_act="silu", dtype="bfloat16",
        hidden_size=16 * r.randrange(2, 7), num_hidden_layers=layers, num_attention_heads=(heads := r.randrange(1, 5)), num_key_value_heads=heads, attention_bias=False,
        q_lora_rank=8 * r.randrange(2, 7), kv_lora_rank=8 * r.randrange(2, 7), qk_nope_head_dim=8 * r.randrange(1, 6), qk_rope_head_dim=rope, v_head_dim=8 * r.randrange(1, 6),
        intermediate_size=16 * r.randrange(2, 8), moe_intermediate_size=8 * r.randrange(1, 7), n_routed_experts=experts, n_shared_experts=r.randrange(1, 3),
        num_experts_per_tok=r.randrange(1, experts), first_k_dense_replace=r.randrange(0, layers), n_group=1, topk_group=1, norm_topk_prob=True, topk_method="noaux_tc",
        routed_scaling_factor=r.choice([1.0, 1.8, 2.5]), num_nextn_predict_layers=1, vocab_size=16 * r.randrange(4, 20), max_position_embeddings=512,
        # transformers builds two norms with eps 1e-6, whatever the config says
        rms_norm_eps=1e-6, rope_theta=r.choice([10000, 1000000]), rope_scaling=None, rope_interleave=True, partial_rotary_factor=1.0, tie_word_embeddings=False,
        eos_token_id=[1, 2], pad_token_id=0)
    if family == "glm_moe_dsa":
        cfg.update(index_n_heads=r.randrange(1, 5), index_head_dim=rope + 2 * r.randrange(0, 9), index_topk=r.choice([4, 16, 64]), indexer_rope_interleave=True)
        del cfg["rope_interleave"], cfg["partial_rotary_factor"]
    # transformers does not look at first_k_dense_replace
    dense = cfg["first_k_dense_replace"]
    cfg["mlp_layer_types"] = ["dense"] * dense + ["sparse"] * (layers - dense)
    return cfg


@pytest.mark.parametrize("family", ["glm4_moe_lite", "glm_moe_dsa"])
def test_random_checkpoints(family, tmp_path, note, defined_ties):  # noqa: F811
    """logits of 12 random checkpoints (sizes, heads, ranks, experts, dense layers, scaling, rotary base), 5 random sequences each: at most 2e-4 of the logits' standard deviation apart"""
    worst = 0.0
    for seed in range(12):
        d = tmp_path / str(seed)
        (tmp_path / f"{seed}.json").write_text(json.dumps(random_config(family, seed)))
        ck.run(ck.SYNTH, "-config", tmp_path / f"{seed}.json", "-mtp", "plain", "-seed", seed, d)
        assert AutoConfig.from_pretrained(d).model_type == family
        rows = compare(load(d), d, tmp_path)
        worst = max(worst, rows[-1])
        assert rows[-1] < 2e-4, (seed, rows[-6:], random_config(family, seed))
    note(f"{family}: at most {worst:.1e}")
