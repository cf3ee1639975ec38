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
