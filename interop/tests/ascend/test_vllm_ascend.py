"""vllm-ascend's modelslim_config of two releases, from the Python files of its wheels, on our descriptions; vLLM and the NPU package are stubbed."""
import functools
import importlib.util
import json
import pathlib
import re
import sys
import tempfile
import types

import pytest

import checkpoints as ck

PEER = "vllm-ascend"
VERSION = "0.18.0, 0.26.0rc1"
RELEASES = VERSION.split(", ")
FULL = ck.ASCEND_FULL
# what methods/*.py register beside the weight, by scheme (w8a8_static.py, w8a8_dynamic.py, w4a8.py, w8a8_mxfp8.py, w4a4_mxfp4.py)
PARAMETERS = {
    "W8A8": {"weight", "input_scale", "input_offset", "quant_bias", "deq_scale"},
    "W8A8_DYNAMIC": {"weight", "weight_scale", "weight_offset"},
    "W4A8_DYNAMIC": {"weight", "weight_scale", "weight_offset", "scale_bias"},
    "W8A8_MXFP8": {"weight", "weight_scale"},
    "W4A4_MXFP4": {"weight", "weight_scale"},
}
# and kv_c8.py, for the cache of grouped-query attention
CACHE = {"kv_cache_scale", "kv_cache_offset"}


class Stub(types.ModuleType):
    """A module whose names are classes that do nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {})
        setattr(self, name, made)
        return made


@functools.cache
def release(version):
    """modelslim_config of a release, and its registry of schemes as the sources of its methods have it."""
    top = ck.CACHE / f"vllm-ascend-{version}" / "vllm_ascend"
    folder = top / "quantization"
    schemes = {tuple(m) for f in (folder / "methods").rglob("*.py") for m in re.findall(r'^@register_scheme\("(\w+)", "(\w+)"\)', f.read_text(), re.M)}
    stubs = {"regex": re}
    for name in ("config", "logger", "model_executor.layers.attention_layer_base", "model_executor.layers.fused_moe", "model_executor.layers.linear",
                 "model_executor.layers.quantization", "model_executor.layers.quantization.base_config", "model_executor.layers.vocab_parallel_embedding", "model_executor.models.utils"):
        stubs["vllm." + name] = Stub("vllm." + name)
    stubs["vllm.logger"].logger = types.SimpleNamespace(**{k: lambda *a, **k: None for k in ("info", "info_once", "debug", "error", "warning", "warning_once")})
    stubs["vllm.model_executor.layers.quantization"].register_quantization_config = lambda _: lambda c: c
    for name in {".".join(n.split(".")[:i]) for n in list(stubs) if n.startswith("vllm") for i in range(1, n.count(".") + 1)} - set(stubs):
        stubs[name] = Stub(name)
    stubs["vllm_ascend"], stubs["vllm_ascend.utils"], stubs["vllm_ascend.quantization"] = Stub("vllm_ascend"), Stub("vllm_ascend.utils"), Stub("vllm_ascend.quantization")
    methods = stubs["vllm_ascend.quantization.methods"] = Stub("vllm_ascend.quantization.methods")
    methods.get_scheme_class = lambda scheme, kind: (lambda: (scheme, kind)) if (scheme, kind) in schemes else None
    for name, m in stubs.items():
        m.__path__ = [] if name != "regex" else None
    kept = {n: sys.modules.get(n) for n in stubs}
    sys.modules.update(stubs)
    try:
        spec = importlib.util.spec_from_file_location("vllm_ascend.quantization.modelslim_config", folder / "modelslim_config.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for n, m in kept.items():
            sys.modules.pop(n) if m is None else sys.modules.__setitem__(n, m)
    module.known = schemes
    return module


def stored(d):
    """module -> {parameter: entry} of a folder, and {name: dtype}."""
    desc = json.loads((d / "quant_model_description.json").read_text())
    index = json.loads((d / "quant_model_weights.safetensors.index.json").read_text())["weight_map"]
    out, dtypes = {}, {}
    for n in index:
        module, _, param = n.rpartition(".")
        out.setdefault(module, {})[param] = desc.get(n)
    for f in set(index.values()):
        with (d / f).open("rb") as b:
            header = json.loads(b.read(int.from_bytes(b.read(8), "little")))
        dtypes.update({n: e["dtype"] for n, e in header.items() if n != "__metadata__"})
    return desc, out, dtypes


def scheme_of(params, dtype):
    if "weight_scale" in params and dtype in ("F8_E4M3", "U8"):
        return "W8A8_MXFP8" if dtype == "F8_E4M3" else "W4A4_MXFP4"
    for scheme, has in (("W8A8", "deq_scale"), ("W4A8_DYNAMIC", "scale_bias"), ("W8A8_DYNAMIC", "weight_scale")):
        if has in params:
            return scheme
    return "FLOAT"


def judge(version, d):
    vllm_ascend = release(version)
    desc, params, dtypes = stored(d)
    hf = ck.config(d)
    mapping = vllm_ascend.packed_modules_model_mapping[hf["model_type"]]
    shards = {s: fused for fused, list_ in mapping.items() for s in list_}
    # It walks through all entries for each module. Experts beyond the second have the first one's, as is asserted below.
    q = vllm_ascend.AscendModelSlimConfig({k: v for k, v in desc.items() if not re.search(r"\.experts\.(\d\d|[2-9])", k)})
    asked = {}  # prefix in the engine -> (kind, stored schemes)
    scaled = {"k_proj": set(), "v_proj": set()}  # layers whose keys, values have scales
    for module, have in params.items():
        scheme, last = scheme_of(have, dtypes.get(module + ".weight")), module.rpartition(".")[2]
        if CACHE & set(have):
            assert {have.pop(p, None) for p in CACHE} == {"C8"}, module
            scaled[last].add(int(re.search(r"layers\.(\d+)\.", module)[1]))
        if module == "rot":
            assert have == {"weight": None} and desc["is_rot_used"] is True
            continue
        assert None not in have.values(), (module, have)  # a tensor without an entry
        if scheme != "FLOAT":
            assert set(have) - {"bias"} == PARAMETERS[scheme] and set(have.values()) - {"FLOAT"} == {scheme} == {have["weight"]}, (module, have)
        expert = re.fullmatch(r"(.*\.mlp\.experts)\.\d+\.\w+", module)
        plain = (last.endswith("norm") or last.startswith("norm") or module.endswith((".mlp.gate", "eh_proj", ".indexer")) or
                 last in ("weights_proj", "wk"))  # built without a configuration, as newer releases do
        if plain or "weight" not in have:
            continue
        if expert:
            prefix, kind = expert[1], "moe"
        else:
            prefix, kind = module.replace(".shared_head.head", ".head"), "linear"
            if last in shards:
                prefix = module.removesuffix(last) + shards[last]
        known = asked.setdefault(prefix, (kind, set()))
        known[1].add(scheme)
    assert len(asked) > 10
    for prefix, (kind, schemes) in asked.items():
        (want,) = schemes
        if q.is_layer_skipped_ascend(prefix, mapping):
            assert want == "FLOAT", prefix
        elif (want, kind) in vllm_ascend.known:
            assert vllm_ascend.create_scheme_for_layer(q.quant_description, prefix, kind, mapping) == (want, kind), prefix
        else:
            assert (version, want) == ("0.18.0", "W4A4_MXFP4")  # since 0.20
            with pytest.raises(NotImplementedError):
                vllm_ascend.create_scheme_for_layer(q.quant_description, prefix, kind, mapping)
    # caches: layers that it lists are those that have the matrices, and its attention has a class for them
    matrices = {int(re.search(r"layers\.(\d+)\.", m)[1]) for m, p in params.items() if "q_rot" in p}
    assert set(q.indexer_quant_layers) == matrices
    for layer in matrices:
        prefix = f"model.layers.{layer}.self_attn"
        assert vllm_ascend.create_scheme_for_layer(q.quant_description, prefix, "attention", mapping) == ("INT8_DYNAMIC", "attention")
    assert scaled["k_proj"] == scaled["v_proj"]
    if hasattr(q, "c8_quant_layers"):
        assert set(q.c8_quant_layers) == scaled["k_proj"]
    for layer in scaled["k_proj"]:
        assert q.quant_description["kv_cache_type"] == "C8"
        if hasattr(q, "get_cache_scale"):
            names = {q.get_cache_scale(f"model.layers.{layer}.self_attn.{m}.{p}") for m in scaled for p in CACHE}
            assert names == {f"model.layers.{layer}.self_attn.attn.{m}_cache_{p}" for m in "kv" for p in ("scale", "offset")}


CASES = [(v, m, k) for v in RELEASES for m, k in ck.PUBLISHED_CASES if k != "rotated-bf16"]


@pytest.mark.parametrize("version,model,kind", CASES, ids=ck.ids(CASES))
def test_published(version, model, kind):
    """folders as they are published (rotated, static, C8, the recipes): modelslim_config of both releases gives every module of trunk and draft the scheme that is stored, every tensor has the entry and the parameters of its scheme, none is left over"""
    judge(version, pathlib.Path(ck.published(model, kind)))


LEARNT = [(v, *c[:2]) for v in RELEASES for c in ck.learnt("ascend", full=False)]
LEARNT_FULL = [(v, *c[:2]) for v in RELEASES for c in ck.learnt("ascend", full=True)]


@pytest.mark.parametrize("version,model,scheme", LEARNT + [pytest.param(*c, marks=pytest.mark.full) for c in LEARNT_FULL], ids=ck.ids(LEARNT + LEARNT_FULL))
def test_learnt(version, model, scheme):
    """folded results and codes learnt from text: the same answers as for rounded ones"""
    judge(version, pathlib.Path(ck.converted(model, scheme, "ascend")))


@pytest.mark.full
@pytest.mark.parametrize("model,kind", FULL, ids=ck.ids([(m, k.replace("/", "-")) for m, k in FULL]))
def test_full_size(model, kind):
    """the recipes, and every scheme of the layout (dynamic, static, C8, MX), at the true module lists of GLM-5 = 5.1, 5.2, 5.3 and 4.7, files without data, in both releases (0.18 refuses W4A4_MXFP4)"""
    src = ck.CACHE / "hollow" / ck.fingerprint() / model
    if not (src / "config.json").exists():
        src.parent.mkdir(parents=True, exist_ok=True)
        ck.run(ck.SYNTH, "-preset", model, "-sparse", src)
    with tempfile.TemporaryDirectory(prefix="glmconv-list-") as dst:
        ck.run(ck.DUMP, "-hollow", kind, "-out", dst, src)
        for version in RELEASES:
            judge(version, pathlib.Path(dst))
