"""vllm-ascend's modelslim_config, from the Python files of its wheel, on our quant_model_description.json at vLLM's module lists."""
import pytest

import checkpoints as ck
from test_modules import MODELS, judge, layouts

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
