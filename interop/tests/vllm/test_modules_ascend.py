"""vllm-ascend's modelslim_config, from the Python files of its wheel, on our quant_model_description.json at vLLM's module lists."""
import functools
import json

import pytest
from safetensors import safe_open

import checkpoints as ck
from test_modules import MODELS, build, compare, directory, judge, layouts

PEER = "vllm-ascend"
VERSION = "0.18.0"
CASES = [(m, s, f) for m in MODELS for s, f in layouts(m) if f == "ascend"]


@pytest.mark.parametrize("model,scheme,fmt", CASES, ids=ck.ids(CASES))
def test_decisions(model, scheme, fmt):
    """modelslim_config's key rewriting, fused shards and scheme registry, trunk and MTP draft: every module gets the scheme that is stored, no KeyError"""
    judge(model, scheme, fmt)


FULL = ck.full("ascend")


@pytest.mark.full
@pytest.mark.parametrize("model,scheme,fmt", FULL, ids=ck.ids(FULL))
def test_full_size(model, scheme, fmt):
    """the same at the true module lists of published models (GLM-4.5 = 4.6 = 4.7, 4.5-Air, 4.5V, 4.6V, 4.7-Flash, 5 = 5.1, 5.2), files without data"""
    judge(model, scheme, fmt)


@functools.cache
def built_published(model):
    return build(model, directory(model, "w8a8", "compressed-tensors"), [ck.published(model, k) for m, k in ck.PUBLISHED_CASES if m == model])


# what methods/*.py register beside the weight, by scheme (w8a8_static.py, w8a8_dynamic.py, w4a8.py)
PARAMETERS = {
    "W8A8": {"weight", "input_scale", "input_offset", "quant_bias", "deq_scale"},
    "W8A8_DYNAMIC": {"weight", "weight_scale", "weight_offset"},
    "W4A8_DYNAMIC": {"weight", "weight_scale", "weight_offset", "scale_bias"},
}


@pytest.mark.parametrize("model,kind", ck.PUBLISHED_CASES, ids=ck.ids(ck.PUBLISHED_CASES))
def test_published(model, kind):
    """folders as they are published (rotated, static, C8, the recipes): every module of trunk and draft gets the scheme that is stored, every tensor has the entry and the parameters of its scheme, none is left over; caches and rot.weight are where its classes look for them"""
    d = ck.published(model, kind)
    if kind != "rotated-bf16":
        compare(built_published(model), d, "w8a8")
    desc = json.loads((d / "quant_model_description.json").read_text())
    names = [k for f in ck.shards(d) for k in safe_open(f, framework="pt").keys()]
    params = {}
    for n in names:
        module, _, param = n.rpartition(".")
        params.setdefault(module, {})[param] = desc.get(n)
    for module, have in params.items():
        if module == "rot":
            assert have == {"weight": None} and desc["is_rot_used"] is True
            continue
        schemes = set(have.values())
        assert None not in schemes, (module, have)  # no tensor without an entry
        (scheme,) = schemes - {"FLOAT"} or {"FLOAT"}
        if scheme != "FLOAT":
            assert set(have) - {"bias"} == PARAMETERS[scheme], (module, have)
    # parameters of methods/kv_c8.py, for the layers that the description lists (modelslim_config.py:_add_kvcache_quant_metadata)
    caches = {k.removesuffix(".quant_type") for k in desc if k.endswith(".indexer.quant_type")}
    assert caches == {m for m, p in params.items() if m.endswith(".indexer") and "q_rot" in p}
    for m in caches:
        assert set(params[m]) == {"q_rot", "k_rot"}, params[m]
    assert bool(caches) == (desc.get("indexer_quant_type") == "INT8_DYNAMIC")
    assert not any(k.endswith("_rot") and k not in names for k in desc if "." in k)
