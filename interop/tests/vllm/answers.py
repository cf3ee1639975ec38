"""Runs in a process of its own: what vLLM's own classes make of declarations of other tools, module by module.

  answers.py MODELS_DIR DECLARATIONS.json...    prints {"library", "modules": {model: [[name, kind], ...]}, "answers": {declaration: {model: {answer: [indices]}}}}

For every declaration and model the engine chooses the configuration class as ModelConfig does, passes it the model's mapper and fused names, and
is asked for the method of every module of trunk and draft, which were built on the meta device once. While it answers, the platform says that it is
one GPU. An answer is "" (full precision), a format such as "int4/32", or "!" and the engine's own complaint; "*" is the complaint about the whole.
"""
import json
import os
import pathlib
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
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS, get_quantization_config  # noqa: E402
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsConfig  # noqa: E402
from vllm.model_executor.layers.quantization.utils import quant_utils as keys  # noqa: E402
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding  # noqa: E402
from vllm.model_executor.model_loader.utils import initialize_model  # noqa: E402
import vllm.model_executor.layers.mla as mla  # noqa: E402
from device import OneGPU  # noqa: E402

RELEASE = "vllm 0.32"
# ModelConfig._verify_quantization asks these last, in this order
OVERRIDES = ["auto_gptq", "gptq", "gptq_marlin", "auto_awq", "awq", "awq_marlin", "inc", "moe_wna16", "modelopt", "modelopt_fp4", "modelopt_mxfp8", "mxfp8",
             "modelopt_mixed", "mxfp4", "gpt_oss_mxfp4"]
PLAIN = {"quant_method": "compressed-tensors", "format": "int-quantized", "ignore": [], "config_groups": {"group_0": {"targets": ["Linear"], "format": "int-quantized",
         "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True, "dynamic": False},
         "input_activations": {"num_bits": 8, "type": "int", "strategy": "token", "symmetric": True, "dynamic": True}}}}


class NoAttention(nn.Module):
    """In place of the MLA kernel, which has no weights: "Sparse Attention is not supported on CPU"."""

    def __init__(self, *a, **k):
        super().__init__()


mla.MLAAttention = NoAttention


def kind(layer):
    if isinstance(layer, ParallelLMHead):
        return "head"
    if isinstance(layer, VocabParallelEmbedding):
        return "embedding"
    return "experts" if type(layer).__name__ == "RoutedExperts" else "linear" if isinstance(layer, LinearBase) else ""


def build(cfg, model_config=None):
    """The model, and every module that asks the configuration."""
    seen, get = {}, CompressedTensorsConfig.get_quant_method

    def record(self, layer, prefix):
        if kind(layer):  # glm4_1v.py names the tower's fused projection by the kind of configuration
            seen[prefix.replace(".attn.qkv_proj", ".attn.qkv") if ".blocks." in prefix else prefix] = layer
        return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None

    CompressedTensorsConfig.get_quant_method = record
    try:
        with set_current_vllm_config(cfg), torch.device("meta"):
            model = initialize_model(vllm_config=cfg, model_config=model_config) if model_config else initialize_model(vllm_config=cfg)
    finally:
        CompressedTensorsConfig.get_quant_method = get
    return model, seen


def chosen(raw, hf_config):
    """The class, as ModelConfig._verify_quantization chooses it."""
    name = raw["quant_method"]
    for q in [q for q in QUANTIZATION_METHODS if q not in OVERRIDES + ["humming", "deepseek_v4_fp8"]] + OVERRIDES:
        override = get_quantization_config(q).override_quantization_method(raw, None, hf_config=hf_config)
        if override is not None:
            return override
    return name


NAMES = [(keys.kNvfp4Static, "fp4/16"), (keys.kMxfp4Static, "mxfp4"), (keys.kMxfp8Static, "mxfp8"), (keys.kFp8StaticTensorSym, "fp8/tensor"),
         (keys.kFp8StaticTokenSym, "fp8/channel"), (keys.kFp8StaticChannelSym, "fp8/channel"), (keys.kFp8Static128BlockSym, "fp8/128x128"),
         (keys.kInt8StaticChannelSym, "int8/-1"), (keys.kInt8StaticTensorSym, "int8/tensor")]


def key(k):
    """A QuantKey as the records write it."""
    for known, name in NAMES:
        if known == k:
            return name
    raise AssertionError(f"{k}: say what it is")


def of_quark(scheme):
    name = type(scheme).__name__.upper()
    if "NVFP4" in name:
        return "fp4/16"
    if "OCP_MX" in name or "MXFP4" in name:
        k = getattr(scheme, "weight_quant_key", None)
        return key(k) if k is not None else "mxfp4"
    if "INT8" in name:
        return "int8/-1"
    return key(scheme.weight_quant_key)


def described(method, layer):
    """The format that a method object is for."""
    name = type(method).__name__
    q = getattr(method, "quant_config", None) or getattr(method, "quantization_config", None)
    if method is None or name.startswith("Unquantized"):
        return ""
    if name == "Humming":
        return f"int{method.config.bits}/{method.config.group_size}"
    if name == "ModelOptLinearMethod":
        return key(method.spec.weight)
    if name.startswith("ModelOpt"):
        return {"ModelOptFp8MoEMethod": "fp8/tensor", "ModelOptNvFp4FusedMoE": "fp4/16", "ModelOptMxFp8FusedMoE": "mxfp8"}[name]
    if name.startswith("Fp8"):
        return "fp8/%dx%d" % tuple(q.weight_block_size)
    if name == "QuarkLinearMethod":
        return of_quark(layer.scheme)
    if name.startswith("Quark"):
        return "fp4/16" if "Nvfp4" in name else "int8/-1" if "Int8" in name else key(method.weight_quant_key)
    if name == "INCLinearMethod":
        return of_inc(method.scheme)
    if name.startswith("INCMx") or "Mxfp" in name:
        return "mxfp4" if "4" in name else "mxfp8"
    if hasattr(q, "weight_bits"):
        return f"int{q.weight_bits}/{q.group_size}"
    raise AssertionError(f"{name}: say what it is: {sorted(vars(method))}")


def of_inc(scheme):
    name = type(scheme).__name__
    if "Mxfp4" in name:
        return "mxfp4"
    if "Mxfp8" in name:
        return "mxfp8"
    c = getattr(scheme, "layer_config", None) or getattr(scheme, "config", None)
    if c is not None and hasattr(c, "bits"):
        return f"int{c.bits}/{c.group_size}"
    inner = getattr(scheme, "quant_method", None) or getattr(scheme, "inner", None) or getattr(scheme, "method", None)
    if inner is not None:
        return described(inner, None)
    raise AssertionError(f"{name}: say what it is: {sorted(vars(scheme))}")


def configured(raw, folder, hf_config, model):
    """The configuration object, prepared as initialize_model prepares it for the trunk; the draft is built with the same one."""
    q = get_quantization_config(chosen(raw, hf_config)).from_config(json.loads(json.dumps(raw)))
    q.maybe_update_config(folder, hf_config=hf_config)
    mapper = getattr(type(model), "hf_to_vllm_mapper", None)
    if mapper is not None:
        q.apply_vllm_mapper(mapper.get_rename_mapper())
    q.packed_modules_mapping = dict(getattr(model, "packed_modules_mapping", None) or {})
    return q


KERNELS = ("init_nvfp4_linear_kernel", "init_mxfp4_linear_kernel", "init_mxfp8_linear_kernel")


def no_kernels():
    """The CPU build has no kernels for a GPU: none is chosen, and the widths that humming serves are what they are."""
    from vllm.model_executor.layers.quantization.inc.schemes import inc_wna16_scheme as inc
    from vllm.model_executor.layers.quantization.inc.schemes import inc_mxfp4_scheme, inc_mxfp8_scheme  # noqa: F401
    for m in list(sys.modules.values()):
        for k in KERNELS if getattr(m, "__name__", "").startswith("vllm.") else ():
            if k in vars(m):
                setattr(m, k, lambda *a, **k: None)
    inc._build_humming_linear_method = lambda c: Humming(c)
    inc._build_humming_moe_method = lambda layer, c: Humming(c)


class Humming:
    def __init__(self, config):
        self.config = config


def ask(raw, folder, hf_config, models):
    answers, q = {}, None
    for model, seen in models:
        with OneGPU():
            try:
                q = q or configured(raw, folder, hf_config, model)
            except Exception as e:  # noqa: BLE001 the engine's own message is the answer
                return {"*": f"!{type(e).__name__}: {e}"}
            no_kernels()
            for prefix, layer in seen.items():
                try:
                    answers[prefix] = described(q.get_quant_method(layer, prefix), layer)
                except Exception as e:  # noqa: BLE001
                    if "say what it is" in str(e):
                        raise
                    answers[prefix] = f"!{type(e).__name__}: {e}"
    return answers


def grouped(got, names):
    """answer -> indices of modules; "*" says why no module was asked."""
    out = {k: v for k, v in got.items() if k.startswith("*")}
    for i, n in enumerate(names if "*" not in out else ()):
        out.setdefault(got.get(n, ""), []).append(i)
    return out


def config_of(folder, drafts):
    args = dict(model=folder, dtype="bfloat16", enforce_eager=True, skip_tokenizer_init=True, max_model_len=64)
    if drafts:
        args["speculative_config"] = {"method": "mtp", "num_speculative_tokens": 1}
    return EngineArgs(**args).create_engine_config()


def main():
    declarations = {}
    for f in sys.argv[2:]:
        declarations.update(json.load(open(f)))
    listed, answered = {}, {name: {} for name in declarations}
    started = False
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
        hf = json.loads(path.read_text())
        drafts = bool(hf.get("num_nextn_predict_layers"))
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "config.json").write_text(json.dumps({**hf, "quantization_config": PLAIN}))
            cfg = config_of(folder, drafts)
            if not started:
                with set_current_vllm_config(cfg):
                    init_distributed_environment(1, 0, f"file://{tempfile.mkdtemp()}/rendezvous", 0, backend="gloo")
                    initialize_model_parallel(1, 1)
                started = True
            models = [build(cfg)] + ([build(cfg, cfg.speculative_config.draft_model_config)] if drafts else [])
            names = [(n, kind(x)) for _, seen in models for n, x in seen.items()]
            listed[path.stem] = [list(x) for x in names]
            with set_current_vllm_config(cfg):
                for name, raw in declarations.items():
                    answered[name][path.stem] = grouped(ask(raw, folder, cfg.model_config.hf_config, models), [n for n, _ in names])
    os.write(real, json.dumps(dict(library=RELEASE, modules=listed, answers=answered)).encode())
    os._exit(0)


main()
