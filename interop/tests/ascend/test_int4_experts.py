"""vllm-ascend's classes for int4 with int8 inputs of compressed-tensors, from the Python files of its wheels; the NPU package and vLLM are stubbed."""
import contextlib
import functools
import importlib.util
import json
import re
import sys
import types

import pytest
import torch
from safetensors import safe_open

import checkpoints as ck
from test_vllm_ascend import RELEASES, VERSION, Stub  # noqa: F401

PEER = "vllm-ascend"
# all linears but the routed experts in the source's precision
EXPERTS = ("best", "--ignore", r"re:.*self_attn\..*", "--ignore", r"re:.*shared_experts\..*", "--ignore", r"re:.*layers\.\d+\.mlp\.(gate|up|down)_proj")


@functools.cache
def methods(version):
    """methods/w4a8.py of a release; what it asks of a server is answered in `server`."""
    folder = ck.CACHE / f"vllm-ascend-{version}" / "vllm_ascend" / "quantization" / "methods"
    source = (folder / "w4a8.py").read_text()
    stubs = {}
    for name in set(re.findall(r"^\s*(?:from|import) (vllm[\w.]*|torch_npu)", source, re.M)) | {"vllm_ascend.quantization.methods.base", "vllm_ascend.quantization.methods.registry"}:
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            stubs.setdefault(".".join(parts[:i]), Stub(".".join(parts[:i])))
    for m in stubs.values():
        m.__path__ = []
    server = types.SimpleNamespace(description={})
    config = types.SimpleNamespace(quant_config=types.SimpleNamespace(quant_description=server.description), parallel_config=types.SimpleNamespace(enable_expert_parallel=False),
                                   use_v2_model_runner=False)
    stubs["vllm.config"].get_current_vllm_config = lambda: config
    stubs["vllm.distributed"].get_tensor_model_parallel_world_size = lambda: 1
    stubs["vllm.distributed"].get_ep_group = lambda: types.SimpleNamespace(world_size=1)
    stubs["vllm_ascend.ascend_config"].get_ascend_config = lambda: types.SimpleNamespace(eplb_config=types.SimpleNamespace(dynamic_eplb=False), enable_fused_mc2=0)
    stubs["vllm_ascend.utils"].COMPRESSED_TENSORS_METHOD = "compressed-tensors"
    stubs["vllm_ascend.distributed.parallel_state"].get_mc2_group = lambda: (_ for _ in ()).throw(AttributeError())
    stubs["vllm_ascend.quantization.methods.registry"].register_scheme = lambda *_: lambda c: c
    stubs["vllm_ascend.quantization.methods.base"].QuantType = types.SimpleNamespace(W4A8="W4A8")
    if "vllm.logger" in stubs:
        stubs["vllm.logger"].logger = types.SimpleNamespace(warning_once=lambda *a: None)
    with installed(stubs):
        spec = importlib.util.spec_from_file_location("vllm_ascend.quantization.methods.w4a8", folder / "w4a8.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module, server, stubs


@contextlib.contextmanager
def installed(stubs):
    """Modules that stand in for others while they are asked for."""
    kept = {n: sys.modules.get(n) for n in stubs}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for n, m in kept.items():
            sys.modules.pop(n) if m is None else sys.modules.__setitem__(n, m)


def tensors(d):
    """name -> (dtype, shape) of a folder."""
    out = {}
    for f in ck.shards(d):
        with safe_open(f, framework="pt") as st:
            out.update({k: (st.get_slice(k).get_dtype(), tuple(st.get_slice(k).get_shape())) for k in st.keys()})
    return out


def described(server, group):
    """What _is_dynamic_token_w4a8 of compressed_tensors_config.py writes into the declaration."""
    server.description.clear()
    server.description.update(group_size=group, version="0", ascend_quant_method="compressed-tensors", weight_strategy="group" if group else "channel")


@pytest.mark.parametrize("version", RELEASES)
def test_experts(version):
    """int4 experts of compressed-tensors with int8 inputs (w4a8, everything else left out): its class registers the types and shapes that are stored; check says that it loads them"""
    d = ck.converted("nano-glm4moe", "w4a8", "compressed-tensors", *EXPERTS)
    cfg, have = ck.config(d), tensors(d)
    group = cfg["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"]
    module, server, stubs = methods(version)
    described(server, group)
    with installed(stubs):
        scheme = module.AscendW4A8DynamicFusedMoEMethod()
    n, inner, hidden = cfg["n_routed_experts"], cfg["moe_intermediate_size"], cfg["hidden_size"]
    params = scheme.get_weight(n, inner, hidden, torch.bfloat16) | scheme.get_dynamic_quant_param(n, inner, hidden, torch.bfloat16)
    assert set(params) == {"w13_weight", "w2_weight", "w13_weight_scale", "w2_weight_scale"}
    quantized = {k.removesuffix(".weight_scale") for k in have if k.endswith(".weight_scale")}
    assert quantized and all(".mlp.experts." in m for m in quantized), quantized
    kinds = {"I8": torch.int8, "BF16": torch.bfloat16}
    for p in ("weight", "weight_scale"):
        for m in quantized:
            dtype, shape = have[f"{m}.{p}"]
            built = params[("w2_" if m.endswith("down_proj") else "w13_") + p]
            rows = built.shape[1] // (1 if m.endswith("down_proj") else 2)
            assert (kinds[dtype], shape) == (built.dtype, (rows, built.shape[2])), (m, p)
    assert answer(d, version) == "loads"


@pytest.mark.parametrize("version", RELEASES)
def test_linears(version):
    """peer's limit, minimal case: its class for int4 linears has scales of rows and second ones of groups, which compressed-tensors has not; check says that it refuses w4a8 as a whole"""
    d = ck.converted("nano-glm4moe", "w4a8", "compressed-tensors")
    have, module = tensors(d), "model.layers.1.self_attn.o_proj"
    own, server, stubs = methods(version)
    described(server, 128)
    rows, columns = have[module + ".weight"][1]
    with installed(stubs):
        params = own.AscendW4A8DynamicLinearMethod().get_pergroup_param(columns, rows, torch.bfloat16)
    assert "weight_scale_second" in params and module + ".weight_scale_second" not in have
    assert params["weight_scale"].shape == (rows, 1) != have[module + ".weight_scale"][1]
    assert answer(d, version) == "refuses"


def answer(d, version):
    release = ".".join(version.split(".")[:2])
    return json.loads(ck.run(ck.BIN, "check", "--json", "--engine", "vllm-ascend@" + release, d, check=False).stdout)["engines"][0]["answer"]
