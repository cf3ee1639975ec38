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
                   "modelopt-nvfp4, o_proj in BF16", "modelopt-nvfp4, q_proj in BF16", "modelopt-nvfp4, down_proj left alone", "modelopt-nvfp4, one expert left alone",
                   "quark-nvfp4", "quark-nvfp4, weights alone", "quark-mxfp4 without its draft, o_proj in BF16", "awq without its draft", "awq without its draft, o_proj in BF16", "awq without its draft, o_proj left alone",
                   "awq without its draft, one expert in BF16"]


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


def rewritten(d, change):
    """Shards with other tensors; an index names what there is."""
    for f in ck.shards(d):
        t = load_file(f)
        save_file(change(t) or t, f, metadata={"format": "pt"})
    index = d / "model.safetensors.index.json"
    if index.exists():
        index.write_text(json.dumps(dict(metadata={}, weight_map={k: f.name for f in ck.shards(d) for k in safe_open(f, framework="pt").keys()})))
    return d


def no_draft(name):
    """A checkpoint of three layers without its MTP layer."""
    return rewritten(altered(name, without_draft), lambda t: {k: v for k, v in t.items() if not k.startswith("model.layers.3.")})


def in_full(d, module):
    """The tensors of a module are a weight in BF16, the declaration says nothing of it."""
    def change(t):
        if module + ".qweight" in t:  # AWQ's, [I, O/8]
            columns, words = t[module + ".qweight"].shape
            shape = 8 * words, columns
        elif module + ".weight" in t:
            rows, half = t[module + ".weight"].shape
            shape = rows, 2 * half
        else:
            return t
        t = {k: v for k, v in t.items() if not k.startswith(module + ".") or k.endswith(".bias")}
        t[module + ".weight"] = torch.ones(*shape, dtype=torch.bfloat16)
        return t
    return rewritten(d, change)


def left_alone(d, module):
    """The declaration excludes a module whose tensors are codes."""
    for f, where, key in (("config.json", "quantization_config", None), ("hf_quant_config.json", "quantization", "exclude_modules")):
        if (d / f).exists():
            cfg = json.loads((d / f).read_text())
            q = cfg[where]
            key = key or ("modules_to_not_convert" if q["quant_method"] == "awq" else "ignore")
            q[key] = (q.get(key) or []) + [module]
            (d / f).write_text(json.dumps(cfg))
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


def quark_nvfp4(name, inputs=True):
    """ModelOpt's NVFP4 as Quark has it: another name for the scale of inputs, specifications of two levels."""
    d = altered(name, without_draft)
    (d / "hf_quant_config.json").unlink()
    rewritten(d, lambda t: {k.replace(".input_scale", ".input_scale_2"): v for k, v in t.items() if inputs or not k.endswith(".input_scale")})
    names = {k for f in ck.shards(d) for k in safe_open(f, framework="pt").keys()}
    exclude = sorted(m for m in (n.removesuffix(".weight") for n in names if n.endswith(".weight")) if m + ".weight_scale" not in names and "norm" not in m)

    def levels(dynamic):
        own = dict(ch_axis=None, symmetric=None, round_method="half_even", scale_type="float", observer_cls="PerTensorMinMaxObserver")
        return [own | dict(dtype="fp4", is_dynamic=dynamic, qscheme="per_group", ch_axis=-1, group_size=16), own | dict(dtype="fp8_e4m3", is_dynamic=False, qscheme="per_tensor", group_size=None)]
    cfg = json.loads((d / "config.json").read_text())
    cfg["quantization_config"] = dict(
        quant_method="quark", quant_mode="eager_mode", version="0.13", algo_config=None, exclude=exclude, layer_quant_config={}, layer_type_quant_config={}, kv_cache_quant_config={},
        global_quant_config=dict(weight=levels(False), input_tensors=levels(True) if inputs else None, output_tensors=None, bias=None, target_device=None),
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
    o_proj, expert = "model.layers.1.self_attn.o_proj", "model.layers.1.mlp.experts.0.down_proj"
    dirs["modelopt-nvfp4, o_proj in BF16"] = in_full(altered("modelopt-nvfp4+plain", without_draft), o_proj)
    dirs["modelopt-nvfp4, q_proj in BF16"] = in_full(altered("modelopt-nvfp4+plain-q", without_draft), "model.layers.1.self_attn.q_proj")
    dirs["modelopt-nvfp4, down_proj left alone"] = left_alone(altered("modelopt-nvfp4+left", without_draft), "model.layers.0.mlp.down_proj")
    dirs["modelopt-nvfp4, one expert left alone"] = left_alone(altered("modelopt-nvfp4+expert", without_draft), expert)
    dirs["quark-nvfp4"] = quark_nvfp4("modelopt-nvfp4+quark")
    dirs["quark-nvfp4, weights alone"] = quark_nvfp4("modelopt-nvfp4+quark-weights", inputs=False)
    dirs["quark-mxfp4 without its draft, o_proj in BF16"] = in_full(no_draft("quark-mxfp4+plain"), o_proj)
    dirs["awq without its draft"] = no_draft("awq+none")
    dirs["awq without its draft, o_proj in BF16"] = in_full(no_draft("awq+plain"), o_proj)
    dirs["awq without its draft, o_proj left alone"] = left_alone(no_draft("awq+left"), o_proj)
    dirs["awq without its draft, one expert in BF16"] = in_full(no_draft("awq+expert"), expert)
    dirs["quark-fp8 with scales [N, 1]"] = quark("quark-fp8-columns", "fp8", "fp8_e4m3", (-1, 1))
    dirs["quark-int8 with scales [N, 1]"] = quark("quark-int8-columns", "w8a8", "int8", (-1, 1))
    return dirs
