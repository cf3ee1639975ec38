"""Runs in a process of its own: what vllm-ascend's own configuration classes make of declarations, module by module.

  answers_ascend.py MODULES.json DECLARATIONS.json...    prints {"library", "answers": {declaration: {model: {answer: [indices]}}}}

VLLM_ASCEND_DIR has the Python files of a release, VLLM_DIR those of vLLM (a wheel of either, unpacked). Modules are those that tests/vllm/answers.py found.
Nothing needs an NPU, kernels or an installed engine: the platform's list, the configuration classes, the registry of schemes and vLLM's matching run from
their files, layers are empty modules of the right class. An answer is "" (full precision), the name of a scheme, or "!" and the engine's own complaint;
"*" is the complaint about the whole.
"""
import ast
import json
import logging
import os
import pathlib
import re
import sys
import types

import torch

ROOT, VLLM = pathlib.Path(os.environ["VLLM_ASCEND_DIR"]) / "vllm_ascend", pathlib.Path(os.environ["VLLM_DIR"]) / "vllm"
Q = VLLM / "model_executor/layers/quantization"
FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"], "fused_qkv_a_proj": ["q_a_proj", "kv_a_proj_with_mqa"]}
PREFIXES = {"model.language_model.": "language_model.model.", "model.visual.": "visual.", "lm_head.": "language_model.lm_head."}  # glm4_1v.py


class LinearBase(torch.nn.Module):
    pass


class RoutedExperts(torch.nn.Module):
    pass


class Quiet(logging.Logger):
    def warning_once(self, *a, **k):
        pass

    info_once = warning_once


class Base:
    """vLLM's QuantizationConfig as far as a subclass needs it."""

    def __init__(self):
        self.packed_modules_mapping = {}


def module(name, path=None, **attrs):
    m = types.ModuleType(name)
    m.__path__ = [str(path)] if path else []
    vars(m).update(attrs)
    sys.modules[name] = m
    return m


def registered():
    """(scheme, kind) of the registry, from its decorators."""
    text = "".join(f.read_text() for f in sorted((ROOT / "quantization/methods").rglob("*.py")))
    return set(re.findall(r'^@register_scheme\("(\w+)", "(\w+)"\)', text, re.M)) | {("fp8", k) for k in re.findall(r'^@register_scheme\(FP8_METHOD, "(\w+)"\)', text, re.M)}


class Method:
    def __init__(self, scheme, *a, **k):
        self.scheme = scheme


def prepare():
    known = registered()
    log = Quiet("engine")
    module("vllm", VLLM), module("vllm.logger", init_logger=lambda n: log, logger=log)
    for name in ("vllm.model_executor", "vllm.model_executor.layers", "vllm.model_executor.models", "vllm.models"):
        module(name)
    module("vllm.model_executor.layers.fused_moe", FusedMoE=RoutedExperts, MoERunner=RoutedExperts, RoutedExperts=RoutedExperts)
    module("vllm.model_executor.layers.linear", LinearBase=LinearBase, UnquantizedLinearMethod=lambda *a: None)
    module("vllm.model_executor.layers.quantization", Q, QUANTIZATION_METHODS=[], register_quantization_config=lambda n: lambda c: c)
    module("vllm.model_executor.layers.quantization.base_config", QuantizationConfig=Base, QuantizeMethodBase=object)
    module("vllm.model_executor.layers.quantization.compressed_tensors", Q / "compressed_tensors")
    module("vllm.model_executor.layers.quantization.utils", Q / "utils")
    module("vllm.model_executor.parameter", **{n: n for n in ("BlockQuantScaleParameter", "ChannelQuantScaleParameter", "PerTensorScaleParameter")})
    module("vllm.model_executor.layers.quantization.utils.quant_utils", **{n: n for n in ("kFp8Static128BlockSym", "kFp8StaticChannelSym", "kFp8StaticTensorSym")})
    module("vllm.model_executor.models.utils", WeightsMapper=object)

    class Scheme:
        def __init__(self, *a, **k):
            pass

    def get_scheme_class(scheme, kind):
        return type(scheme, (Scheme,), {}) if (scheme, kind) in known else None

    module("vllm_ascend", ROOT), module("vllm_ascend.ops"), module("vllm_ascend.ops.fused_moe")
    module("vllm_ascend.ops.linear", AscendUnquantizedLinearMethod=lambda *a: None)
    for name in ("fused_moe", "routed_experts"):
        module("vllm_ascend.ops.fused_moe." + name, AscendUnquantizedFusedMoEMethod=lambda *a: None)
    module("vllm_ascend.utils", COMPRESSED_TENSORS_METHOD="compressed-tensors", FP8_METHOD="fp8", ASCEND_QUANTIZATION_METHOD="ascend")
    module("vllm_ascend.quantization", ROOT / "quantization")
    module("vllm_ascend.quantization.methods", get_scheme_class=get_scheme_class, AscendLinearScheme=object, AscendMoEScheme=object)
    module("vllm_ascend.quantization.utils", is_fused_moe_layer=lambda x: isinstance(x, RoutedExperts))
    module("vllm_ascend.quantization.method_adapters", AscendLinearMethod=Method, AscendFusedMoEMethod=Method)
    configs = ROOT / "quantization/configs"
    RoutedExperts.__name__ = "RoutedExperts" if "RoutedExperts" in (next(ROOT.rglob("compressed_tensors_config.py"))).read_text() else "FusedMoE"
    if configs.is_dir():
        module("vllm_ascend.quantization.configs", configs)
        from vllm_ascend.quantization.configs import compressed_tensors_config
    else:
        from vllm_ascend.quantization import compressed_tensors_config
    return compressed_tensors_config.AscendCompressedTensorsConfig


def platform():
    """NPUPlatform.supported_quantization."""
    names = {"ASCEND_QUANTIZATION_METHOD": "ascend", "COMPRESSED_TENSORS_METHOD": "compressed-tensors", "FP8_METHOD": "fp8"}
    for node in ast.walk(ast.parse((ROOT / "platform.py").read_text())):
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "supported_quantization":
            return [names[e.id] if isinstance(e, ast.Name) else e.value for e in node.value.elts]
    raise AssertionError("platform.py lists no quantizations")


class Mapper:
    """hf_to_vllm_mapper of GLM-4.5V."""

    def name(self, text):
        for old, new in PREFIXES.items():
            if text.startswith(old):
                return new + text[len(old):]
        return text

    def apply_list(self, names):
        return [self.name(n) for n in names]

    def apply_dict(self, d):
        return {self.name(k): v for k, v in d.items()}


def method_of(raw):
    """The name that vLLM's ModelConfig asks the platform about."""
    if raw["quant_method"] == "modelopt" and str(raw.get("quant_algo")).upper() == "MXFP8":
        return "modelopt_mxfp8"
    return raw["quant_method"]


def ask(config, raw, names, nested):
    if method_of(raw) not in platform():
        return {"*": f"!ValueError: {method_of(raw)} quantization is currently not supported in npu."}
    if raw["quant_method"] != "compressed-tensors":
        return None
    try:
        q = config.from_config(json.loads(json.dumps(raw)))
    except Exception as e:  # noqa: BLE001 the engine's own message is the answer
        return {"*": f"!{type(e).__name__}: {str(e).splitlines()[0]}"}
    q.packed_modules_mapping = dict(FUSED)
    if nested:
        q.apply_vllm_mapper(Mapper())
    out = {}
    for i, (name, kind) in enumerate(names):
        if kind not in ("linear", "experts"):
            continue
        layer = LinearBase() if kind == "linear" else RoutedExperts()
        layer.moe_config = None
        try:
            m = q.get_quant_method(layer, name)
            answer = type(m.scheme).__name__ if m is not None else ""
        except Exception as e:  # noqa: BLE001
            answer = f"!{type(e).__name__}: {str(e).splitlines()[0]}"
        out.setdefault(answer, []).append(i)
    return out


def main():
    config = prepare()
    modules = json.loads(pathlib.Path(sys.argv[1]).read_text())["modules"]
    answers = {}
    for f in sys.argv[2:]:
        for name, raw in json.loads(pathlib.Path(f).read_text()).items():
            got = {model: ask(config, raw, names, model == "glm45v") for model, names in modules.items()}
            if all(v is not None for v in got.values()):
                answers[name] = got
    print(json.dumps({"library": "vllm-ascend " + os.environ["VLLM_ASCEND_RELEASE"], "platform": platform(), "answers": answers}))


main()
