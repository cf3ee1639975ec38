"""vllm-ascend's classes for int4 with int8 inputs of compressed-tensors, from the Python files of its wheels; the NPU package and vLLM are stubbed."""
import contextlib
import functools
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import types

import pytest
import torch
from safetensors import safe_open

import checkpoints as ck
from test_vllm_ascend import RELEASES, VERSION, Stub  # noqa: F401

PEER = "vllm-ascend"
# how w4a8 is asked for so that routed experts alone are int4; both releases read scales of groups and of channels
FORMS = ["rest-bf16", "rest-int8", "rest-bf16,channel", "rest-int8,channel"]
# true module lists: one of grouped-query attention, one of latents, one of latents with sparse attention
LISTS = ["glm-4.5-air", "glm-4.7-flash", "glm-5"]
FUSED = {"q_proj": "qkv_proj", "gate_proj": "gate_up_proj", "q_a_proj": "fused_qkv_a_proj"}
SWALLOWED = {"k_proj", "v_proj", "up_proj", "kv_a_proj_with_mqa"}


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


@functools.cache
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


def flags(form):
    """The options of quantize."""
    rest, _, group = form.partition(",")
    return ("best", "--rest", rest.removeprefix("rest-"), *(("--group-size", group) if group else ()))


def registered(version, d, have):
    """Its class for int4 experts registers the types and shapes that are stored in a folder."""
    cfg = ck.config(d)
    (args,) = [g["weights"] for g in cfg["quantization_config"]["config_groups"].values() if g["weights"]["num_bits"] == 4]
    module, server, stubs = methods(version)
    described(server, args["group_size"] or 0)
    with installed(stubs):
        scheme = module.AscendW4A8DynamicFusedMoEMethod()
    n, inner, hidden = cfg["n_routed_experts"], cfg["moe_intermediate_size"], cfg["hidden_size"]
    params = {}
    with torch.device("meta"):
        for p in (scheme.get_weight(n, inner, hidden, torch.bfloat16), scheme.get_dynamic_quant_param(n, inner, hidden, torch.bfloat16)):
            params.update(p)
    assert set(params) == {"w13_weight", "w2_weight", "w13_weight_scale", "w2_weight_scale"}
    experts = {k.removesuffix(".weight_scale") for k in have if k.endswith(".weight_scale") and ".mlp.experts." in k}
    assert len(experts) == 3 * n * (cfg["num_hidden_layers"] - cfg["first_k_dense_replace"])
    kinds = {"I8": torch.int8, "BF16": torch.bfloat16}
    for p in ("weight", "weight_scale"):
        for m in experts:
            dtype, shape = have[f"{m}.{p}"]
            built = params[("w2_" if m.endswith("down_proj") else "w13_") + p]
            rows = built.shape[1] // (1 if m.endswith("down_proj") else 2)
            assert (kinds[dtype], shape) == (built.dtype, (rows, built.shape[2])), (m, p)


def modules(version, have):
    """{runtime name: kind} of trunk and draft, as vllm-ascend asks its configuration about them, and what is stored of each."""
    out = {}
    for name in have:
        if not name.endswith(".weight"):
            continue
        module = name.removesuffix(".weight")
        parent, _, leaf = module.rpartition(".")
        expert = re.fullmatch(r"(.*\.mlp\.experts)\.\d+\.\w+", module)
        if leaf in SWALLOWED or "norm" in leaf or module.endswith((".mlp.gate", "eh_proj", "embed_tokens", "head", ".weights_proj")):
            continue  # built without the configuration
        if leaf == "wk" and version != RELEASES[0]:
            continue  # wk_weights_proj, built without it
        if expert:
            out.setdefault(expert[1], ["experts", set()])[1].add(have[name][0] == "I8")
        else:
            out[f"{parent}.{FUSED.get(leaf, leaf)}"] = ["linear", {have[name][0] == "I8"}]
    return out


@functools.cache
def asked(version, dirs, names):
    """What its configuration class builds for modules: {folder: {scheme or complaint: indices}}."""
    env = dict(os.environ, OMP_NUM_THREADS="1", VLLM_ASCEND_DIR=str(ck.CACHE / f"vllm-ascend-{version}"), VLLM_ASCEND_RELEASE=version, VLLM_DIR=str(ck.CACHE / "vllm"),
               PYTHONPATH=str(ck.CACHE / "vllm"))
    with tempfile.TemporaryDirectory() as t:
        lists, declarations = pathlib.Path(t) / "modules.json", pathlib.Path(t) / "declarations.json"
        lists.write_text(json.dumps({"modules": {"all": names}}))
        declarations.write_text(json.dumps({d: ck.config(d)["quantization_config"] for d in dirs}))
        p = subprocess.run([sys.executable, ck.ROOT / "interop/tests/vllm/answers_ascend.py", lists, declarations], capture_output=True, text=True, env=env)
    assert p.returncode == 0, p.stderr[-2000:]
    return {d: a["all"] for d, a in json.loads(p.stdout)["answers"].items()}


CASES = [(v, m, f) for v in RELEASES for m in ("nano-glm4moe", "nano-glm5") for f in FORMS]


@pytest.mark.parametrize("version,model,form", CASES, ids=ck.ids(CASES))
def test_experts(version, model, form):
    """int4 experts of compressed-tensors with int8 inputs (w4a8 with --rest int8 or bf16, in groups and in channels): its class registers the types and shapes that are stored; check says that it loads them"""
    d = ck.converted(model, "w4a8", "compressed-tensors", *flags(form))
    registered(version, d, tensors(d))
    assert answer(d, version) == "loads"


LISTED = [(v, m, f + ",quantize" * mtp) for v in RELEASES for m in LISTS for f, mtp in (("rest-int8,channel", False), ("rest-int8,channel", True), ("rest-bf16,channel", False), ("rest-int8", False))]


def marked(c):
    """GLM-5 has 60,000 tensors: the form that plans name is tried everywhere, the others where everything is."""
    return pytest.param(*c, marks=pytest.mark.full) if c[1] == "glm-5" and c[2] != "rest-int8,channel" else c


@pytest.mark.parametrize("version,model,form", map(marked, LISTED), ids=ck.ids(LISTED))
def test_full_size(version, model, form):
    """the same at true module lists, trunk and draft, MTP as in the source or quantised, files without data: its configuration class builds W4A8_DYNAMIC for experts, W8A8_DYNAMIC or full precision for every other linear, as they are stored, and its class for experts registers what is stored; the plan says so"""
    what, mtp = form.removesuffix(",quantize"), "quantize" if form.endswith(",quantize") else ""
    d, plan = ck.hollow(model, "w4a8", f"compressed-tensors/{mtp}/{what}")
    have = tensors(d)
    built = modules(version, have)
    names = list(built)
    layer = ck.config(d)["num_hidden_layers"]
    assert {f"model.layers.{layer}.mlp.experts", "model.layers.1.mlp.experts" if model != "glm-5" else "model.layers.3.mlp.experts"} <= set(names)
    answers = asked(version, (str(d),), tuple((n, built[n][0]) for n in names))[str(d)]
    got = {names[i]: a for a, at in answers.items() for i in at}
    want = {n: "" if codes == {False} else "W4A8_DYNAMIC" if kind == "experts" else "W8A8_DYNAMIC" for n, (kind, codes) in built.items()}
    assert got == want
    assert {"W4A8_DYNAMIC", "W8A8_DYNAMIC" if "int8" in form else ""} <= set(answers)
    assert all(len(codes) == 1 for _, codes in built.values())
    if mtp == "":
        registered(version, d, have)
    loads = {r["answer"] for r in plan if r["engine"] == "vllm-ascend"}  # the newest release, which has lost the class for groups
    assert ("loads" in loads) == ("channel" in form), loads


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
