"""compressed-tensors: config models, matching code and decompressors on our directories."""
import functools

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme
from compressed_tensors.quantization.quant_args import QuantizationArgs
from compressed_tensors.utils import match as ctmatch
from safetensors import safe_open

import checkpoints as ck

PEER = "compressed-tensors"
CASES = ck.matrix("compressed-tensors") + ck.learnt("compressed-tensors", full=False)
FULL = ck.learnt("compressed-tensors", full=True)
cases = pytest.mark.parametrize("model,scheme,fmt", CASES + [pytest.param(*c, marks=pytest.mark.full) for c in FULL], ids=ck.ids(CASES + FULL))


@functools.cache
def tensors(d):
    out = {}
    for f in ck.shards(d):
        with safe_open(f, framework="pt") as st:
            out.update({k: st.get_tensor(k) for k in st.keys()})
    return out


def modules(d):
    """Every module with a weight that an engine builds as a Linear, with the shape of the source's weight."""
    return {n.removesuffix(".weight"): t for n, t in tensors(d).items()
            if n.endswith(".weight") and t.ndim == 2 and not n.endswith(("norm.weight", "embed_tokens.weight", "pos_embed.weight", "position_embedding.weight"))}


def group_of(qc, name):
    """The one config group that the peer's rules give a Linear of this name, or None; most specific target first, as loaders merge them."""
    with torch.device("meta"):
        linear = torch.nn.Linear(1, 1)
    if ctmatch.is_match(name, linear, qc.ignore):
        return None
    targets = {t: g for g in qc.config_groups.values() for t in g.targets}
    hit = ctmatch.match_targets(name, linear, list(targets))
    return targets[hit[0]] if hit else None


@cases
def test_config_parses_strictly(model, scheme, fmt):
    """its pydantic config models parse our quantization_config; no key is unknown to them and a dump gives our values back"""
    raw = ck.config(ck.converted(model, scheme, fmt))["quantization_config"]
    qc = QuantizationConfig.model_validate(raw, strict=False)
    known = {f.alias or n for n, f in QuantizationConfig.model_fields.items()} | set(QuantizationConfig.model_fields)
    # keys that its own writer adds beside the fields of the model
    assert set(raw) - known <= {"version", "sparsity_config", "transform_config", "quant_method"}
    dump = qc.model_dump(mode="json")
    for name, group in raw["config_groups"].items():
        assert set(group) <= set(QuantizationScheme.model_fields)
        for part in ("weights", "input_activations", "output_activations"):
            if group.get(part) is None:
                continue
            assert set(group[part]) <= set(QuantizationArgs.model_fields)
            for k, v in group[part].items():
                assert dump["config_groups"][name][part][k] == v, (name, part, k)
        assert dump["config_groups"][name]["format"] == group["format"]
    assert dump["ignore"] == raw["ignore"] and dump["format"] == raw["format"]
    assert dump["quantization_status"] == "compressed"


@cases
def test_matching_selects_what_we_quantised(model, scheme, fmt):
    """match_targets and the ignore rules, applied to our config at every Linear of the source, select exactly the modules that we quantised"""
    src, dst = ck.source(model), ck.converted(model, scheme, fmt)
    qc = QuantizationConfig.model_validate(ck.config(dst)["quantization_config"])
    ours = {n.removesuffix(".weight_scale") for n in tensors(dst) if n.endswith(".weight_scale")}
    theirs = {m for m in modules(src) if group_of(qc, m) is not None}
    assert theirs == ours


@cases
def test_decompresses_to_our_values(model, scheme, fmt, tmp_path):
    """its decompressor gives our reader's values bit for bit, for every quantised module (scales widened to float32)"""
    d = ck.converted(model, scheme, fmt)
    qc = QuantizationConfig.model_validate(ck.config(d)["quantization_config"])
    t, checked = tensors(d), 0
    with safe_open(ck.dequantised(d, tmp_path / "ours.safetensors"), framework="pt") as ours:
        mine = set(ours.keys())
        for name in mine:
            module = name.removesuffix(".weight")
            g = group_of(qc, module)
            local = {k[len(module) + 1:]: v for k, v in t.items() if k.startswith(module + ".weight")}
            local["weight_scale"] = local["weight_scale"].float()
            got = BaseCompressor.get_value_from_registry(g.format).decompress(local, g)["weight"]
            want = ours.get_tensor(name)
            assert got.shape == want.shape, module
            assert torch.equal(got.float().view(torch.int32), want.view(torch.int32)) or torch.equal(got.float(), want), module
            checked += 1
    assert checked and checked == sum(n.endswith(".weight_scale") for n in t)
