"""msmodelslim's quantisers, packing and scale_bias on the source weights, against our ascend directories."""
import functools
import types

import pytest
import torch
from msmodelslim.core.quant_service.modelslim_v1.save.utils.pack import process_scale, w4a8_pack_int4
from msmodelslim.core.quant_service.modelslim_v1.save.ascendv1 import AscendV1Saver
from msmodelslim.core.quantizer.base import QConfig
import msmodelslim.core.quantizer.impl  # noqa: F401 registers the quantisers
from msmodelslim.core.quantizer.impl import ssz
from msmodelslim.core.quantizer.impl.minmax import WeightPerChannelMinmax
from msmodelslim.ir.api import calculate_qparam
from msmodelslim.ir.qal import QDType, QScope, QStorage
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


def static(d):
    t = tensors(d)
    for name in t:
        if name.endswith(".deq_scale"):
            m = name.removesuffix(".deq_scale")
            yield m, {p: t[f"{m}.{p}"] for p in ("weight", "deq_scale", "quant_bias", "input_scale", "input_offset")}


STATIC = [(m, k) for m, k in ck.PUBLISHED_CASES if k in ("static", "rotated-static-c8", "glm-5-w8a8", "glm-5.2-w8a8c8")]


@pytest.mark.parametrize("model,kind", STATIC, ids=ck.ids(STATIC))
def test_static_tensors(model, kind):
    """its saver's on_w8a8_static on our codes, scales and inputs writes our tensors: names, dtypes, shapes, codes, input_scale, input_offset, quant_bias equal; deq_scale equal where it multiplies in F32, within the rounding of BF16 where it does in BF16"""
    n = 0
    for m, t in static(ck.published(model, kind)):
        scale = (t["deq_scale"].double() / t["input_scale"].double()).float().bfloat16()  # of the rows: BF16 numbers
        assert torch.equal(scale.float() * t["input_scale"], t["deq_scale"]), m
        for dtype in (torch.float32, torch.bfloat16):
            got = {}
            saver = types.SimpleNamespace(update_quant_type=lambda *_: None, _global_torch_dtype_is_bf16=True, write_tensor=lambda name, desc, x: got.update({name: (desc, x)}))
            module = types.SimpleNamespace(weight=t["weight"], weight_scale=scale.to(dtype), input_scale=t["input_scale"].to(dtype), input_offset=t["input_offset"].to(dtype), bias=None)
            AscendV1Saver.on_w8a8_static(saver, m, module)
            assert set(got) == {f"{m}.{p}" for p in t}, m
            for p, ours in t.items():
                desc, theirs = got[f"{m}.{p}"]
                assert desc == "W8A8" and theirs.dtype == ours.dtype and theirs.shape == ours.shape, (m, p, theirs.dtype, theirs.shape)
                if p == "deq_scale" and dtype is torch.bfloat16:
                    assert ((theirs - ours).abs() <= ours * 2**-8).all(), m
                else:
                    assert torch.equal(theirs, ours), (m, p)
        n += 1
    assert n >= 11, n


def test_static_inputs():
    """its asymmetric per-tensor scale and zero point of a range against ours: never narrower, at most 2 % and a step of BF16 wider, and together with the BF16 reciprocal that the NPU forms of both nearer to the input on average"""
    ours, theirs = 0.0, 0.0
    for m, t in static(ck.published("nano-glm5", "static")):
        s, z = t["input_scale"].double(), t["input_offset"].double()
        lo, hi = ((-128 - z) * s).float(), ((127 - z) * s).float()  # the range that codes hold
        p = calculate_qparam(min_val=lo.bfloat16()[0], max_val=hi.bfloat16()[0], q_dtype=QDType.INT8, q_scope=QScope.PER_TENSOR, symmetric=False)
        their = p.ext["scale"].double()
        assert their.item() <= s.item() * (1 + 2**-7) and s.item() <= their.item() * (1 + 2**-7), m
        off = lambda x: abs(float(x * (1 / x.bfloat16()).double() - 1))
        ours, theirs = ours + off(s), theirs + off(their)
    assert ours <= theirs
