"""compressed-tensors' own converter of ModelOpt's NVFP4 and its decompressor on our ModelOpt directories."""
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.entrypoints.convert.converters.modelopt_nvfp4 import ModelOptNvfp4Converter
from compressed_tensors.quantization import QuantizationScheme
from compressed_tensors.quantization.quant_scheme import NVFP4A16
from safetensors import safe_open

import checkpoints as ck

PEER = "compressed-tensors"
CASES = [c for c in ck.matrix("modelopt") if c[1] == "nvfp4"]


def tensors(d):
    out = {}
    for f in ck.shards(d):
        with safe_open(f, framework="pt") as st:
            out.update({k: st.get_tensor(k) for k in st.keys()})
    return out


@pytest.mark.parametrize("model,scheme,fmt", CASES, ids=ck.ids(CASES))
def test_decodes(model, scheme, fmt, tmp_path):
    """its converter takes every quantised module of our ModelOpt files and finds no stray scale; what its decompressor makes of them is our dequantised weight within 2^-22 (it turns scales over)"""
    d = ck.converted(model, scheme, fmt)
    before = tensors(d)
    packed = {n.removesuffix(".weight_scale_2") for n in before if n.endswith(".weight_scale_2")}
    assert packed and all(f"{m}.input_scale" in before for m in packed)
    floats = [n.removesuffix(".weight") for n, t in before.items() if n.endswith(".weight") and t.dtype != torch.uint8]
    targets = ["re:.*" + p + "$" for p in sorted({m.rpartition(".")[2] for m in packed})]
    after = ModelOptNvfp4Converter(ignore=floats, targets=targets).validate(dict(before))
    ours = tensors_of(ck.dequantised(d, tmp_path / "dequantised.safetensors"))
    scheme = QuantizationScheme(targets=["Linear"], format="nvfp4-pack-quantized", **NVFP4A16)
    compressor = BaseCompressor.get_value_from_registry("nvfp4-pack-quantized")
    for m in packed:
        state = {k: after[f"{m}.{k}"].reshape(-1) if "global" in k else after[f"{m}.{k}"] for k in ("weight_packed", "weight_scale", "weight_global_scale")}
        state["weight_scale"] = state["weight_scale"].float()  # products in float32
        theirs = compressor.decompress(state, scheme)["weight"]
        assert torch.allclose(theirs.float(), ours[m + ".weight"], rtol=2.0**-8 if theirs.dtype == torch.bfloat16 else 2.0**-22, atol=0), m


def tensors_of(path):
    with safe_open(path, framework="pt") as st:
        return {k: st.get_tensor(k) for k in st.keys()}
