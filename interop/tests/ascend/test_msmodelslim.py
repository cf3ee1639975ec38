"""msmodelslim's quantisers, packing and scale_bias on the source weights, against our ascend directories."""
import functools

import pytest
import torch
from msmodelslim.core.quant_service.modelslim_v1.save.utils.pack import process_scale, w4a8_pack_int4
from msmodelslim.core.quantizer.base import QConfig
import msmodelslim.core.quantizer.impl  # noqa: F401 registers the quantisers
from msmodelslim.core.quantizer.impl import ssz
from msmodelslim.core.quantizer.impl.minmax import WeightPerChannelMinmax
from msmodelslim.ir.qal import QDType, QStorage
from safetensors import safe_open

import checkpoints as ck

PEER = "msmodelslim"
SSZ = next(c for c in vars(ssz).values() if isinstance(c, type) and c.__name__.startswith("Weight"))
CASES = [(m, s) for m in ck.MODELS for s in ("w8a8", "w4a8")]
cases = pytest.mark.parametrize("model,scheme", CASES, ids=ck.ids(CASES))


@functools.cache
def tensors(d):
    out = {}
    for f in ck.shards(d):
        with safe_open(f, framework="pt") as st:
            out.update({k: st.get_tensor(k) for k in st.keys()})
    return out


def quantise(w, four):
    """Codes and scale [N] of its own quantiser."""
    cfg = QConfig(scope="per_channel", dtype="int4" if four else "int8", symmetric=True, method="ssz" if four else "minmax")
    q = (SSZ if four else WeightPerChannelMinmax)(cfg)
    q.init_weight(QStorage(dtype=QDType.FLOAT, value=w.clone()))
    q.forward(None)
    return q.get_q_storage().value.to(torch.int8), q.get_q_param().ext["scale"].reshape(-1)


def quantised(d):
    t = tensors(d)
    for name in t:
        if name.endswith(".weight_scale"):
            m = name.removesuffix(".weight_scale")
            yield m, t[m + ".weight"], t[name].reshape(-1), t.get(m + ".scale_bias"), t[m + ".weight_offset"]


def unpack(packed):
    """[N/2, K] -> [N, K], the low nibble first: the layout's definition."""
    p = packed.to(torch.int16)
    low, high = ((p & 15) ^ 8) - 8, p >> 4
    return torch.stack([low, high], 1).reshape(-1, packed.shape[1]).to(torch.int8)


@cases
def test_compat_codes_and_scales(model, scheme):
    """its min-max int8 and SSZ int4 quantisers on every weight that we quantised: codes, packed bytes and scales equal `--arith compat` bit for bit"""
    src, n = tensors(ck.source(model)), 0
    for m, weight, scale, bias, offset in quantised(ck.converted(model, scheme, "ascend", "compat")):
        codes, s = quantise(src[m + ".weight"], bias is not None)
        assert torch.equal(weight, w4a8_pack_int4(codes) if bias is not None else codes), m
        assert scale.dtype == torch.float32 and torch.equal(scale, s.float()), m
        assert not offset.any()
        n += 1
    assert n > 20


@cases
@pytest.mark.parametrize("arith", ["best", "compat"])
def test_scale_bias_and_packing(model, scheme, arith):
    """its w4a8_pack_int4 gives our bytes back from our codes, its process_scale our scale_bias (equal up to the last bits of a float32 sum)"""
    n = 0
    for m, weight, scale, bias, _ in quantised(ck.converted(model, scheme, "ascend", arith)):
        if bias is None:
            continue
        codes = unpack(weight)
        assert torch.equal(w4a8_pack_int4(codes), weight), m
        want = process_scale(m, (codes.float().T * scale).T, 16).float()
        assert bias.shape == want.reshape(bias.shape).shape and bias.dtype == torch.float32
        size = (codes.float().abs().T * scale).T.sum(1, keepdim=True) * 8
        assert ((bias - want.reshape(bias.shape)).abs() <= size * 2**-20).all(), m
        n += 1
    assert (n > 0) == (scheme == "w4a8")


@cases
def test_best_is_not_worse(model, scheme):
    """squared error of `--arith best` over all weights at most that of its quantisers"""
    src, ours, theirs = tensors(ck.source(model)), 0.0, 0.0
    for m, weight, scale, bias, _ in quantised(ck.converted(model, scheme, "ascend")):
        w = src[m + ".weight"].double()
        codes, s = quantise(src[m + ".weight"], bias is not None)
        mine = unpack(weight) if bias is not None else weight
        ours += float(((mine.double().T * scale.double()).T - w).square().sum())
        theirs += float(((codes.double().T * s.double()).T - w).square().sum())
    assert ours <= theirs
