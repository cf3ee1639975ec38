"""llm-compressor's model_free_ptq, run here, against `glmconv quantize --arith compat`, byte for byte."""
import logging

import llmcompressor.entrypoints.model_free as model_free
import pytest
import torch
from compressed_tensors.quantization import QuantizationConfig
from loguru import logger

import checkpoints as ck
from test_safetensors import theirs

PEER = ("llmcompressor", "compressed-tensors")
PRESETS = {"fp8": "FP8_DYNAMIC", "fp8-block": "FP8_BLOCK", "w8a8": "W8A8", "w4a8": "W4A8", "w4a16": "W4A16"}
CASES = [c for c in ck.matrix("compressed-tensors")]

logger.remove()
logging.disable(logging.WARNING)


@pytest.fixture(autouse=True)
def contiguous(monkeypatch):
    """0.14 hands safetensors a strided slice when a block is partly filled ("You are trying to save a non contiguous tensor")."""
    save = model_free.save_file
    monkeypatch.setattr(model_free, "save_file", lambda t, *a, **k: save({n: x.contiguous() for n, x in t.items()}, *a, **k))


@pytest.mark.parametrize("model,scheme,fmt", CASES, ids=ck.ids(CASES))
def test_compat_bytes(model, scheme, fmt, tmp_path):
    """model_free_ptq, regenerated with our ignore list: every tensor of the result equal in name, dtype, shape and bytes"""
    d = ck.converted(model, scheme, fmt, "compat")
    raw = ck.config(d)["quantization_config"]
    if scheme in PRESETS:
        how = dict(scheme=PRESETS[scheme], ignore=raw["ignore"])
    else:
        # model_free_ptq takes the first group that matches, class names included; the engines take the most specific target
        # whatever the order. So it needs the group with "Linear" last.
        raw["config_groups"] = dict(sorted(raw["config_groups"].items(), key=lambda g: "Linear" in g[1]["targets"]))
        how = dict(config=QuantizationConfig.model_validate(raw))
    torch.manual_seed(0)
    model_free.model_free_ptq(model_stub=str(ck.source(model)), save_directory=str(tmp_path / "out"), device="cpu", **how)
    want, got = theirs(tmp_path / "out"), theirs(d)
    differ = {n: (want.get(n), got.get(n)) for n in set(want) | set(got) if want.get(n) != got.get(n)}
    assert not differ, f"{len(differ)} of {len(want)} differ, such as {sorted(differ.items())[:3]}"


@pytest.mark.parametrize("model", ck.MODELS)
def test_int4_experts(model, tmp_path):
    """model_free_ptq, from our configuration of w4a8 with a scale for each channel beside int8: every tensor but the copies for vllm-ascend's draft equal in name, dtype, shape and bytes"""
    d = ck.converted(model, "w4a8", "compressed-tensors", "compat", "--rest", "int8", "--group-size", "channel")
    raw = ck.config(d)["quantization_config"]
    model_free.model_free_ptq(model_stub=str(ck.source(model)), save_directory=str(tmp_path / "out"), device="cpu", config=QuantizationConfig.model_validate(raw))
    want, got = theirs(tmp_path / "out"), theirs(d)
    assert {n: x for n, x in got.items() if n in want} == want
    assert all(n.endswith((".embed_tokens.weight", ".shared_head.head.weight")) for n in set(got) - set(want))


@pytest.mark.parametrize("scheme", PRESETS)
def test_config_is_theirs(scheme, tmp_path):
    """the quantization_config that it writes for the same scheme: our groups have the same values"""
    model_free.model_free_ptq(model_stub=str(ck.source("nano-glm4moe")), save_directory=str(tmp_path / "out"), device="cpu",
                              scheme=PRESETS[scheme], ignore=["lm_head", "re:.*embed_tokens$", r"re:.*mlp\.gate$", "re:.*eh_proj$", r"re:.*shared_head\.head$"])
    want = ck.config(tmp_path / "out")["quantization_config"]
    got = ck.config(ck.converted("nano-glm4moe", scheme, "compressed-tensors"))["quantization_config"]
    (w,), (g,) = want["config_groups"].values(), got["config_groups"].values()
    differ = {k: (w.get(k), g.get(k)) for k in set(w) | set(g) if w.get(k) != g.get(k)}
    assert not differ
    assert {k: want[k] for k in ("format", "quant_method", "quantization_status", "version")} == {k: got[k] for k in ("format", "quant_method", "quantization_status", "version")}
