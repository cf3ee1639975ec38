"""Runs in a process of its own: builds vLLM's model classes, trunk and MTP draft, on the meta device from directories and runs its loaders over their tensors.

Reads a job a line: {"dir", "capability": of the GPU, as [9, 0], or null for a CPU, "few": show three experts of each layer for all (experts.py)}. Prints one JSON object
a job as it is done: {"params": {name: [dtype, elements that are stored, elements written, [source dtypes]]}, "unused": [stored tensors that nothing
took], "error": the engine's own message}.

Configuration, choice of classes, model classes and load_weights are vLLM's own; the platform says that it is one GPU, and kernels for it, which the CPU
build lacks, are stood in for. Tensors have shapes and dtypes but no data.
"""
import contextlib
import json
import os
import sys
import tempfile
import traceback

os.environ.update(VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0")
real = os.dup(1)
os.dup2(2, 1)  # keep standard output for the JSON

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

import files  # noqa: E402

files.ready()

import torch  # noqa: E402
from torch import nn  # noqa: E402
from vllm.config import set_current_vllm_config  # noqa: E402
from vllm.distributed import init_distributed_environment, initialize_model_parallel  # noqa: E402
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
import vllm.model_executor.model_loader.utils as loader  # noqa: E402
from vllm.model_executor.models import registry  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
import vllm.model_executor.layers.mla as mla  # noqa: E402
import experts  # noqa: E402
from follow import Trace, tensors  # noqa: E402
from device import OneGPU  # noqa: E402


class NoAttention(nn.Module):
    """In place of the MLA kernel, which has no weights: "Sparse Attention is not supported on CPU"."""

    def __init__(self, *a, **k):
        super().__init__()


def without_kernel(self, *a, kv_b_proj, prefix="", **k):
    """In place of MLAAttention's own, for the class of sparse attention that is derived from it: no kernel is chosen."""
    nn.Module.__init__(self)
    self.kv_b_proj, self.layer_name, self.kv_cache_dtype, self.use_pcp, self.impl = kv_b_proj, prefix, "auto", False, Kernel()


mla.MLAAttention.__init__ = without_kernel
mla.MLAAttention = NoAttention
registry._run_in_subprocess = lambda look: look()  # what a class can do is seen here as well, and needs no cloudpickle


class Kernel:
    """In place of a kernel for a GPU."""

    def __init__(self, *a, **k):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *a, **k: None


def choose_classes():
    """GLM-5's classes are chosen when their module is imported, by the platform of that moment, and vLLM may look at a class while it makes a configuration, which
    here is before there is a GPU, or find that look in its cache on disk: each job has them chosen anew."""
    sys.modules.pop("vllm.models.deepseek_v32", None)
    registry._try_load_model_cls.cache_clear()
    loader._MODEL_ARCH_BY_HASH.clear()


GENERIC = ("vllm.model_executor.models.deepseek_v2", "vllm.model_executor.models.deepseek_mtp")  # what XPUs and CPUs have of GLM-5


KERNELS = ("init_fp8_linear_kernel", "init_int8_linear_kernel", "init_nvfp4_linear_kernel", "init_mxfp4_linear_kernel", "init_mxfp8_linear_kernel")


def no_kernels():
    """The CPU build has no kernels for a GPU: none is chosen, and the widths that humming serves are what they are."""
    from vllm.model_executor.layers import sparse_attn_indexer
    from vllm.model_executor.layers.quantization.inc.schemes import inc_wna16_scheme as inc
    from vllm.model_executor.layers.quantization.inc.schemes import inc_mxfp4_scheme, inc_mxfp8_scheme  # noqa: F401
    for m in list(sys.modules.values()):
        for k in KERNELS + ("choose_mp_linear_kernel",) if getattr(m, "__name__", "").startswith("vllm.") else ():
            if k in vars(m):
                setattr(m, k, (lambda *a, **k: Kernel) if k.startswith("choose") else (lambda *a, **k: Kernel()))
    sparse_attn_indexer.has_deep_gemm = lambda: True
    inc._build_humming_linear_method = lambda c: Humming(c)
    inc._build_humming_moe_method = lambda layer, c: Humming(c)



class Humming:
    def __init__(self, config):
        self.config = config


def config_of(folder, drafts):
    args = dict(model=folder, dtype="bfloat16", enforce_eager=True, skip_tokenizer_init=True, max_model_len=64)
    if drafts:
        args["speculative_config"] = {"method": "mtp", "num_speculative_tokens": 1}
    return EngineArgs(**args).create_engine_config()



def load(cfg, d, few, model_config=None):
    with set_current_vllm_config(cfg):
        no_kernels()
        with torch.device("meta"):
            model = loader.initialize_model(vllm_config=cfg, model_config=model_config) if model_config else loader.initialize_model(vllm_config=cfg)
        assert not (current_platform.is_cuda() and type(model).__module__ in GENERIC), f"{type(model)} is not what a GPU has"
        params = dict(model.named_parameters())
        trace, seen = Trace(params), []
        with trace:
            model.load_weights(tensors(d, trace, seen, lambda n: few and experts.left_out(n, few)))
    size = {n: experts.elements(n, tuple(p.shape), few) if few else p.numel() for n, p in params.items()}
    return {n: [str(p.dtype), size[n], trace.written[n], sorted(trace.dtypes[n])] for n, p in params.items()}, set(seen) - trace.used


def job(j):
    d = j["dir"]
    result = dict(params={}, unused=None)
    try:
        hf = json.load(open(os.path.join(d, "config.json")))
        few = experts.count(hf) if j.get("few") else 0
        drafts = bool(hf.get("num_nextn_predict_layers"))
        cfg = config_of(d, drafts)
        if not torch.distributed.is_initialized():
            with set_current_vllm_config(cfg):
                init_distributed_environment(1, 0, f"file://{tempfile.mkdtemp()}/rendezvous", 0, backend="gloo")
                initialize_model_parallel(1, 1)
        with OneGPU(*j["capability"]) if j["capability"] else contextlib.nullcontext():
            choose_classes()
            result["params"], left = load(cfg, d, few)
            if drafts:
                p, more = load(cfg, d, few, cfg.speculative_config.draft_model_config)
                result["params"].update({"draft:" + k: v for k, v in p.items()})
                left &= more
        result["unused"] = sorted(left)
    except Exception as e:  # noqa: BLE001
        result["error"] = f"{type(e).__name__}: {e}"
        result["trace"] = traceback.format_exc()[-3000:]
    return result


def main():
    files.answer_for_kernels()
    type(current_platform).verify_quantization = classmethod(lambda cls, q: None)
    for line in sys.stdin:
        os.write(real, json.dumps(job(json.loads(line))).encode() + b"\n")
    os._exit(0)


main()
