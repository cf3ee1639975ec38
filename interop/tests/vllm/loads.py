"""Runs in a process of its own: builds vLLM's model classes, trunk and MTP draft, on the meta device from directories and runs its loaders over their tensors.

  loads.py DIR...     prints one JSON object a directory: {"params": {name: [dtype, elements, elements written, [source dtypes]]}, "unused": [stored tensors
  that nothing took], "error": the engine's own message}

Configuration, choice of classes, model classes and load_weights are vLLM's own; the platform says that it is one GPU, and kernels for it, which the CPU
build lacks, are stood in for. Tensors have shapes and dtypes but no data.
"""
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
from vllm.model_executor.model_loader.utils import initialize_model  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
import vllm.model_executor.layers.mla as mla  # noqa: E402
from follow import Trace, tensors  # noqa: E402
from device import OneGPU  # noqa: E402


class NoAttention(nn.Module):
    """In place of the MLA kernel, which has no weights: "Sparse Attention is not supported on CPU"."""

    def __init__(self, *a, **k):
        super().__init__()


mla.MLAAttention = NoAttention


class Kernel:
    """In place of a kernel for a GPU."""

    def __init__(self, *a, **k):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *a, **k: None


KERNELS = ("init_fp8_linear_kernel", "init_nvfp4_linear_kernel", "init_mxfp4_linear_kernel", "init_mxfp8_linear_kernel")


def no_kernels():
    """The CPU build has no kernels for a GPU: none is chosen, and the widths that humming serves are what they are."""
    from vllm.model_executor.layers.quantization.inc.schemes import inc_wna16_scheme as inc
    from vllm.model_executor.layers.quantization.inc.schemes import inc_mxfp4_scheme, inc_mxfp8_scheme  # noqa: F401
    for m in list(sys.modules.values()):
        for k in KERNELS + ("choose_mp_linear_kernel",) if getattr(m, "__name__", "").startswith("vllm.") else ():
            if k in vars(m):
                setattr(m, k, (lambda *a, **k: Kernel) if k.startswith("choose") else (lambda *a, **k: Kernel()))
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



def load(cfg, d, model_config=None):
    with set_current_vllm_config(cfg), OneGPU():
        no_kernels()
        with torch.device("meta"):
            model = initialize_model(vllm_config=cfg, model_config=model_config) if model_config else initialize_model(vllm_config=cfg)
        params = dict(model.named_parameters())
        trace, seen = Trace(params), []
        with trace:
            model.load_weights(tensors(d, trace, seen))
    return {n: [str(p.dtype), p.numel(), trace.written[n], sorted(trace.dtypes[n])] for n, p in params.items()}, set(seen) - trace.used


def main():
    started = False
    type(current_platform).verify_quantization = classmethod(lambda cls, q: None)
    for d in sys.argv[1:]:
        result = dict(params={}, unused=None)
        try:
            hf = json.load(open(os.path.join(d, "config.json")))
            drafts = bool(hf.get("num_nextn_predict_layers"))
            cfg = config_of(d, drafts)
            if not started:
                with set_current_vllm_config(cfg):
                    init_distributed_environment(1, 0, f"file://{tempfile.mkdtemp()}/rendezvous", 0, backend="gloo")
                    initialize_model_parallel(1, 1)
                started = True
            p, left = load(cfg, d)
            result["params"].update(p)
            if drafts:
                p, more = load(cfg, d, cfg.speculative_config.draft_model_config)
                result["params"].update({"draft:" + k: v for k, v in p.items()})
                left &= more
            result["unused"] = sorted(left)
        except Exception as e:  # noqa: BLE001
            result["error"] = f"{type(e).__name__}: {e}"
            result["trace"] = traceback.format_exc()[-3000:]
        os.write(real, json.dumps(result).encode() + b"\n")
    os._exit(0)


main()
