"""Files of other tools: those of the reference, and more that are made of them and of our own."""
import functools
import json
import shutil

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import checkpoints as ck

FOREIGN = ["modelopt-nvfp4", "modelopt-fp8", "quark-mxfp4", "autoround-mxfp4", "autoround-gptq", "awq", "gptq-asym", "gptq-int4-int8"]
NAMES = FOREIGN + ["quark-mxfp4, one exclusion less", "gptq-int4-int8 without its draft", "quark-fp8", "quark-int8", "quark-fp8 with scales [N, 1]", "quark-int8 with scales [N, 1]",
                   "modelopt-nvfp4, o_proj in BF16"]


def altered(name, change):
    """A checkpoint of another tool with another configuration."""
    d = ck.CACHE / "foreign" / name
    shutil.rmtree(d, ignore_errors=True)
    shutil.copytree(ck.REFERENCE / "foreign" / name.split("+")[0], d)
    cfg = json.loads((d / "config.json").read_text())
    change(cfg)
    (d / "config.json").write_text(json.dumps(cfg))
    return d


def without_draft(cfg):
    cfg["num_nextn_predict_layers"] = 0


def one_exclusion_less(cfg):
    cfg["quantization_config"]["exclude"].remove("model.layers.3.self_attn.o_proj")


def plain_output(name, module):
    """The tensors of a module are a weight in BF16, the declaration says nothing of it."""
    d = altered(name, without_draft)
    for f in ck.shards(d):
        t = load_file(f)
        if module + ".weight" in t:
            rows, half = t[module + ".weight"].shape
            t = {k: v for k, v in t.items() if not k.startswith(module + ".")}
            t[module + ".weight"] = torch.ones(rows, 2 * half, dtype=torch.bfloat16)
            save_file(t, f, metadata={"format": "pt"})
    return d


def quark(name, scheme, dtype, shape=(-1,)):
    """Codes and scales of ours, declared as Quark does it: channels of the weight, tokens of the input, scales [N]."""
    d = ck.CACHE / "foreign" / name
    shutil.rmtree(d, ignore_errors=True)
    shutil.copytree(ck.converted("nano-glm4moe", scheme, "compressed-tensors"), d)
    (d / "glmconv-manifest.json").unlink()
    for f in ck.shards(d):
        save_file({k: t.reshape(shape) if k.endswith(".weight_scale") else t for k, t in load_file(f).items()}, f, metadata={"format": "pt"})
    names = {k for f in ck.shards(d) for k in safe_open(f, framework="pt").keys()}
    spec = dict(dtype=dtype, is_dynamic=False, qscheme="per_channel", ch_axis=0, group_size=None, symmetric=True, round_method="half_even", scale_type="float",
                observer_cls="PerChannelMinMaxObserver")
    cfg = json.loads((d / "config.json").read_text())
    exclude = sorted(m for m in (n.removesuffix(".weight") for n in names if n.endswith(".weight")) if m + ".weight_scale" not in names and "norm" not in m)
    cfg["quantization_config"] = dict(
        quant_method="quark", quant_mode="eager_mode", version="0.13", algo_config=None, exclude=exclude, layer_quant_config={}, layer_type_quant_config={},
        kv_cache_quant_config={}, global_quant_config=dict(weight=spec, input_tensors={**spec, "is_dynamic": True}, output_tensors=None, bias=None, target_device=None),
        export=dict(kv_cache_group=[], min_kv_scale=0.0, pack_method="reorder", weight_format="real_quantized", weight_merge_groups=None))
    (d / "config.json").write_text(json.dumps(cfg))
    return d


@functools.cache
def directories():
    """name -> directory; what declares a lost MTP layer is loaded without it, as check says."""
    dirs = {n: (altered(n + "+no-draft", without_draft) if n.startswith("modelopt") else ck.REFERENCE / "foreign" / n) for n in FOREIGN}
    dirs["quark-mxfp4, one exclusion less"] = altered("quark-mxfp4+less", one_exclusion_less)
    dirs["gptq-int4-int8 without its draft"] = altered("gptq-int4-int8+no-draft", without_draft)
    dirs["quark-fp8"] = quark("quark-fp8", "fp8", "fp8_e4m3")
    dirs["quark-int8"] = quark("quark-int8", "w8a8", "int8")
    dirs["modelopt-nvfp4, o_proj in BF16"] = plain_output("modelopt-nvfp4+plain", "model.layers.1.self_attn.o_proj")
    dirs["quark-fp8 with scales [N, 1]"] = quark("quark-fp8-columns", "fp8", "fp8_e4m3", (-1, 1))
    dirs["quark-int8 with scales [N, 1]"] = quark("quark-int8-columns", "w8a8", "int8", (-1, 1))
    return dirs
