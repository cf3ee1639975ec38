"""Runs in a process of its own: builds vLLM's model classes on the meta device, trunk and draft, and asks each quantisation config for its decision on every module.

  modules.py MODEL_DIR LAYOUT_DIR...   prints {"modules": [...], "layouts": {dir: {prefix: decision or null}}, "notes": [...]}

A decision is the name of what vLLM's rules select (or null: unquantised); "error: ..." if they raise.
"""
import json
import os
import sys
import tempfile

os.environ.update(VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0")
real = os.dup(1)
os.dup2(2, 1)  # keep standard output for the JSON

import files  # noqa: E402

files.ready()

import torch  # noqa: E402
from torch import nn  # noqa: E402
from vllm.config import set_current_vllm_config  # noqa: E402
from vllm.distributed import init_distributed_environment, initialize_model_parallel  # noqa: E402
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod  # noqa: E402
from vllm.model_executor.layers.quantization import get_quantization_config  # noqa: E402
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsConfig  # noqa: E402
from vllm.model_executor.layers.quantization.utils.quant_utils import is_layer_skipped  # noqa: E402
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding  # noqa: E402
from vllm.model_executor.model_loader.utils import initialize_model  # noqa: E402
import vllm.model_executor.layers.mla as mla  # noqa: E402


class NoAttention(nn.Module):
    """In place of the MLA kernel, which has no weights: "Sparse Attention is not supported on CPU"."""

    def __init__(self, *a, **k):
        super().__init__()


mla.MLAAttention = NoAttention


def build(cfg, model_config=None):
    seen, get = {}, CompressedTensorsConfig.get_quant_method

    def record(self, layer, prefix):
        if isinstance(layer, (LinearBase, VocabParallelEmbedding)) or type(layer).__name__ == "RoutedExperts":
            seen[prefix] = layer
        return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None

    CompressedTensorsConfig.get_quant_method = record
    try:
        with set_current_vllm_config(cfg), torch.device("meta"):
            model = initialize_model(vllm_config=cfg, model_config=model_config) if model_config else initialize_model(vllm_config=cfg)
    finally:
        CompressedTensorsConfig.get_quant_method = get
    return model, seen


def kind(layer):
    return "experts" if type(layer).__name__ == "RoutedExperts" else "linear" if isinstance(layer, LinearBase) else type(layer).__name__


def decide_ct(q, layer, prefix):
    # as CompressedTensorsMoEMethod does: one name a projection, all three equal
    names = [f"{prefix}.0.{p}_proj" for p in ("gate", "up", "down")] if kind(layer) == "experts" else [prefix]
    found = [q.get_scheme_dict(nn.Linear(1, 1, device="meta") if len(names) == 3 else layer, n) for n in names]
    if any(f != found[0] for f in found):
        return "error: All MoE projections need to have same quantization scheme"
    if found[0] is None or found[0].get("weights") is None:
        return None
    w, a = found[0]["weights"], found[0].get("input_activations")
    return f"{found[0]['format']} {w.type.value if hasattr(w.type, 'value') else w.type}{w.num_bits} {w.strategy} / {a and a.type}"


def decide_fp8(q, layer, prefix):
    if kind(layer) not in ("linear", "experts"):
        return None
    return None if is_layer_skipped(prefix=prefix, ignored_layers=q.ignored_layers, fused_mapping=q.packed_modules_mapping, match_mode=q.ignored_layers_match_mode) else f"fp8 {q.weight_block_size}"


def ascend_config():
    """vllm-ascend's config class, from the Python files of its wheel; the NPU package and its kernels are stubbed. None if the wheel was not fetched."""
    root = os.environ.get("VLLM_ASCEND_DIR", "")
    if not os.path.isdir(os.path.join(root, "vllm_ascend")):
        return None
    import re
    import types

    def package(name, *path, **attrs):
        m = types.ModuleType(name)
        m.__path__ = [os.path.join(root, *path)] if path else []
        vars(m).update(attrs)
        sys.modules[name] = m

    text = "".join(open(os.path.join(root, "vllm_ascend/quantization/methods", f)).read() for f in sorted(os.listdir(os.path.join(root, "vllm_ascend/quantization/methods"))) if f.endswith(".py"))
    known = set(re.findall(r'^@register_scheme\("(\w+)", "(\w+)"\)', text, re.M))

    def get_scheme_class(quant_type, layer_type):
        return type(f"{quant_type}", (), {}) if (quant_type, layer_type) in known else None

    package("vllm_ascend", "vllm_ascend")
    package("vllm_ascend.utils", ASCEND_QUANTIZATION_METHOD="ascend", calc_split_factor=lambda *a: None)
    package("vllm_ascend.quantization", "vllm_ascend", "quantization")
    package("vllm_ascend.quantization.methods", get_scheme_class=get_scheme_class)
    import vllm.model_executor.layers.fused_moe as fm
    if not hasattr(fm, "FusedMoE"):
        fm.FusedMoE = type("FusedMoE", (nn.Module,), {})  # an older vLLM's name
    from vllm_ascend.quantization import modelslim_config
    return modelslim_config


def decisions_ascend(d, models):
    mc = ascend_config()
    if mc is None:
        return None
    hf = json.load(open(os.path.join(d, "config.json")))
    out = {}
    for model, seen in models:
        q = mc.AscendModelSlimConfig(json.load(open(os.path.join(d, "quant_model_description.json"))))
        mapper = getattr(model, "hf_to_vllm_mapper", None)
        if mapper is not None:
            q.apply_vllm_mapper(mapper)
        fused = mc.get_packed_modules_mapping(hf["model_type"])  # the draft is built under the target's config
        for prefix, layer in seen.items():
            try:
                if q.is_layer_skipped_ascend(prefix, fused):
                    out[prefix] = None
                else:
                    out[prefix] = type(mc.create_scheme_for_layer(q.quant_description, prefix, "moe" if kind(layer) == "experts" else "linear", fused)).__name__
            except Exception as e:  # noqa: BLE001
                out[prefix] = f"error: {type(e).__name__}: {e}"
    return out


def decisions(d, models):
    if os.path.exists(os.path.join(d, "quant_model_description.json")):
        return decisions_ascend(d, models)
    raw = json.load(open(os.path.join(d, "config.json")))["quantization_config"]
    out = {}
    for model, seen in models:
        q = get_quantization_config(raw["quant_method"]).from_config(dict(raw))
        q.packed_modules_mapping = dict(getattr(model, "packed_modules_mapping", None) or {})
        mapper = getattr(model, "hf_to_vllm_mapper", None)
        if mapper is not None:
            q.apply_vllm_mapper(mapper.get_rename_mapper())
        decide = decide_ct if raw["quant_method"] == "compressed-tensors" else decide_fp8
        for prefix, layer in seen.items():
            # glm4_1v.py names the fused projection of the vision tower by the kind of quantisation config
            name = prefix if raw["quant_method"] == "compressed-tensors" else prefix.replace(".attn.qkv_proj", ".attn.qkv")
            try:
                out[prefix] = decide(q, layer, name if ".blocks." in name else prefix)
            except Exception as e:  # noqa: BLE001 what the engine would say
                out[prefix] = f"error: {type(e).__name__}: {e}"
    return out


def main():
    base, layouts = sys.argv[1], sys.argv[2:]
    args = dict(model=base, dtype="bfloat16", enforce_eager=True, skip_tokenizer_init=True, max_model_len=64)
    mtp = bool(json.load(open(os.path.join(base, "config.json"))).get("num_nextn_predict_layers"))
    if mtp:
        args["speculative_config"] = {"method": "mtp", "num_speculative_tokens": 1}
    cfg = EngineArgs(**args).create_engine_config()
    with set_current_vllm_config(cfg):
        init_distributed_environment(1, 0, f"file://{tempfile.mkdtemp()}/rendezvous", 0, backend="gloo")
        initialize_model_parallel(1, 1)
    models = [build(cfg)]
    if mtp:
        models.append(build(cfg, cfg.speculative_config.draft_model_config))
    result = dict(
        modules={p: kind(x) for m, seen in models for p, x in seen.items()},
        packed={k: list(v) for m, _ in models for k, v in (getattr(m, "packed_modules_mapping", None) or {}).items()},
        prefixes=dict(getattr(models[0][0], "hf_to_vllm_mapper", None).orig_to_new_prefix) if getattr(models[0][0], "hf_to_vllm_mapper", None) else {},
        layouts={d: decisions(d, models) for d in layouts},
    )
    os.write(real, json.dumps(result).encode())
    os._exit(0)


main()
