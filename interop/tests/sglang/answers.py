"""Runs in a process of its own: what SGLang's own classes make of declarations of other tools, module by module.

  answers.py MODELS_DIR DECLARATIONS.json...    prints {"library", "modules": {model: [[name, kind], ...]}, "answers": {declaration: {model: {answer: [indices]}}}}

For every declaration and model the engine chooses the configuration class (ModelConfig), and builds trunk and draft on the meta device with it;
every module that asks the configuration for a method is recorded with the answer, and is then built in full precision. An answer is "" (full
precision), a format such as "int4/32", or "!" and the engine's own complaint. What ends before a module asks is recorded under "*".
"""
import json
import os
import pathlib
import sys
import tempfile

real = os.dup(1)
os.dup2(2, 1)  # keep standard output for the JSON
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../.cache/sglang"))
import gpu  # noqa: E402

gpu.pretend("cuda", (10, 0))  # MXFP8 has no class on older ones

import torch  # noqa: E402
import sglang.srt.layers.quantization  # noqa: E402, F401 first: sglang's own order of imports
from sglang.srt import runtime_context  # noqa: E402
from sglang.srt.configs.load_config import LoadConfig  # noqa: E402
from sglang.srt.configs.model_config import ModelConfig  # noqa: E402
from sglang.srt.layers.linear import LinearBase  # noqa: E402
from sglang.srt.layers.moe.fused_moe_triton import FusedMoE  # noqa: E402
from sglang.srt.layers.quantization import base_config  # noqa: E402
from sglang.srt.layers.quantization.unquant import UnquantizedLinearMethod  # noqa: E402
from sglang.srt.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding  # noqa: E402
from sglang.srt.model_loader import loader  # noqa: E402
from sglang.srt.models.deepseek_v2 import DeepseekV2ForCausalLM  # noqa: E402
from sglang.srt.models.glm4_moe_lite import Glm4MoeLiteForCausalLM  # noqa: E402
import process  # noqa: E402

RELEASE = "sglang 0.5.23"
SHARED = (DeepseekV2ForCausalLM, Glm4MoeLiteForCausalLM)


def kind(layer):
    if isinstance(layer, ParallelLMHead):
        return "head"
    if isinstance(layer, VocabParallelEmbedding):
        return "embedding"
    return "experts" if isinstance(layer, FusedMoE) else "linear" if isinstance(layer, LinearBase) else ""


def described(method, layer):
    """The format that a method object is for."""
    name = type(method).__name__
    q = getattr(method, "quant_config", None) or getattr(method, "quantization_config", None)
    if method is None or name.startswith("Unquantized"):
        return ""
    if name.startswith("ModelOptFp8"):
        return "fp8/tensor"
    if name.startswith(("ModelOptFp4", "ModelOptNvFp4")):
        return "fp4/16"
    if name.startswith("Fp8"):
        block = q.weight_block_size
        return "mxfp8" if q.use_mxfp8 else "fp8/%dx%d" % tuple(block)
    if name.startswith("Quark"):
        scheme = type(layer.scheme).__name__
        return "mxfp4" if "MXFP4" in scheme.upper() else "fp8/" + layer.scheme.weight_qscheme.removeprefix("per_")
    if name.startswith("W4AFp8"):
        return "int4/128"
    if hasattr(q, "weight_bits"):
        return f"int{q.weight_bits}/{q.group_size}"
    raise AssertionError(f"{name}: say what it is")


def base_of(cls):
    return [c for c in cls.__mro__ if "get_quant_method" in vars(c)][0]


def ask(folder, draft, answers):
    mc = ModelConfig(folder, is_draft_model=draft)
    lc = LoadConfig()
    config = loader._get_quantization_config(mc, lc)
    cls = base_of(type(config)) if config is not None else None
    own = cls and cls.get_quant_method

    def record(self, layer, prefix):
        if not kind(layer):
            return None
        try:
            answers[prefix] = described(own(self, layer, prefix), layer)
        except Exception as e:  # noqa: BLE001 the engine's own message is the answer
            if "say what it is" in str(e):
                raise
            answers[prefix] = f"!{type(e).__name__}: {e}"
        return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None

    try:
        if cls:
            cls.get_quant_method = record
        with torch.device("meta"), gpu.OnMeta():
            loader._initialize_model(mc, lc, config)
    finally:
        if cls:
            cls.get_quant_method = own


def all_of(folder, drafts):
    answers = {}
    for cls in SHARED:  # the loader writes fused names of quark into the class, where the next declaration would find them
        cls.packed_modules_mapping.clear()
    override = runtime_context.get_context().override_server_args(model_path=folder, disable_shared_experts_fusion=True)
    override.install()
    for draft in drafts:
        try:
            ask(folder, draft, answers)
        except Exception as e:  # noqa: BLE001
            if "say what it is" in str(e):
                raise
            answers["*draft" if draft else "*"] = f"!{type(e).__name__}: {e}"
    override.restore()
    return answers


class Plain(base_config.QuantizationConfig):
    """Records every module that asks."""

    seen = None

    def get_quant_method(self, layer, prefix):
        if kind(layer):
            Plain.seen[prefix] = kind(layer)
        return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None

    def get_name(self):
        return "plain"

    get_supported_act_dtypes = get_min_capability = get_config_filenames = from_config = get_scaled_act_names = lambda *a: []


def modules(folder, drafts):
    Plain.seen = {}
    override = runtime_context.get_context().override_server_args(model_path=folder, disable_shared_experts_fusion=True)
    override.install()
    for draft in drafts:
        mc = ModelConfig(folder, is_draft_model=draft)
        with torch.device("meta"), gpu.OnMeta():
            loader._initialize_model(mc, LoadConfig(), Plain())
    override.restore()
    return dict(Plain.seen)


def write(top, name, hf):
    """A folder of its own for each: the engine remembers configurations by their path."""
    folder = pathlib.Path(top, name)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(hf))
    return str(folder)


def grouped(got, names):
    """answer -> indices of modules; "*" says why no module was asked. A module that is built without a configuration does not ask."""
    out = {k: v for k, v in got.items() if k.startswith("*")}
    for i, n in enumerate(names if "*" not in out else ()):
        out.setdefault(got.get(n, ""), []).append(i)
    return out


def main():
    process.start()
    declarations = {}
    for f in sys.argv[2:]:
        declarations.update(json.load(open(f)))
    listed, answered = {}, {name: {} for name in declarations}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
        hf = json.loads(path.read_text())
        drafts = [False, True] if hf.get("num_nextn_predict_layers") else [False]
        with tempfile.TemporaryDirectory() as top:
            found = modules(write(top, "plain", hf), drafts)
            names = list(found)
            listed[path.stem] = [[n, found[n]] for n in names]
            for name, raw in declarations.items():
                answered[name][path.stem] = grouped(all_of(write(top, name, {**hf, "quantization_config": raw}), drafts), names)
    os.write(real, json.dumps(dict(library=RELEASE, modules=listed, answers=answered)).encode())
    os._exit(0)


main()
