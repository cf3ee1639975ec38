"""Runs in a process of its own: builds SGLang's model classes, trunk and draft, on the meta device from our directories and runs its loader over our tensors.

  modules.py DEVICE      DEVICE: cuda or npu. Reads a job a line: {"dir", "flags": {server argument: value}, "block_size": null or what its
  compressed-tensors config shall say of the block size, "few": show three experts of each layer for all (experts.py)}

Prints one JSON object a job as it is done: {"modules": {name: [layer class, method, scheme]}, "params": {name: [dtype, elements that are stored, elements written, [source dtypes]]},
"unused": [stored tensors that nothing took], "error": the engine's own message}. Everything is SGLang's own: ModelConfig, choice of the quantisation
config, model classes, load_weights. Tensors have shapes and dtypes but no data.
"""
import concurrent.futures
import json
import os
import sys
import traceback

real = os.dup(1)
os.dup2(2, 1)  # keep standard output for the JSON
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../.cache/sglang"))  # interop/run unpacks the wheel there
import gpu  # noqa: E402

gpu.pretend(sys.argv[1])
sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

import torch  # noqa: E402

import sglang.srt.layers.quantization  # noqa: E402, F401 first: sglang's own order of imports
from sglang.srt import runtime_context  # noqa: E402
from sglang.srt.configs.load_config import LoadConfig  # noqa: E402
from sglang.srt.configs.model_config import ModelConfig  # noqa: E402
from sglang.srt.layers.layernorm import RMSNorm  # noqa: E402
from sglang.srt.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsConfig  # noqa: E402
from sglang.srt.model_loader import loader  # noqa: E402
import experts  # noqa: E402
from follow import Trace, tensors  # noqa: E402
import process  # noqa: E402

class Now(concurrent.futures.Executor):
    """A pool that works at once: a dispatch mode sees its own thread only."""

    def __init__(self, *a, **k):
        pass

    def submit(self, fn, *a, **k):
        f = concurrent.futures.Future()
        f.set_result(fn(*a, **k))
        return f


concurrent.futures.ThreadPoolExecutor = Now


# Of static scales that it joins, q_a's and kv_a's: nothing has values here.
torch.allclose = lambda *_, **__: True


def build(d, draft, quantization):
    mc = ModelConfig(d, is_draft_model=draft, quantization=quantization)
    lc = LoadConfig()
    with torch.device("meta"), gpu.OnMeta():
        return loader._initialize_model(mc, lc, loader._get_quantization_config(mc, lc))


def look(model):
    out = {}
    for name, m in model.named_modules():
        method = getattr(m, "quant_method", None)
        if method is not None:
            scheme = getattr(m, "scheme", None) or getattr(m, "w13_scheme", None)
            out[name] = [type(m).__name__, type(method).__name__, type(scheme).__name__ if scheme is not None else None]
    return out


def job(j):
    d = j["dir"]
    hf = json.load(open(os.path.join(d, "config.json")))
    few = experts.count(hf) if j.get("few") else 0
    flags = dict(j["flags"])
    quantization = flags.pop("quantization", None)
    # a server that drafts with the checkpoint's own MTP layer is its own draft model (speculative_hook.py)
    override = runtime_context.get_context().override_server_args(model_path=d, speculative_draft_model_path=d, quantization=quantization, **flags)
    override.install()
    result = dict(modules={}, params={}, unused=None)
    own = CompressedTensorsConfig.weight_block_size
    norm = {n: vars(RMSNorm).get(n) for n in ("__init__", "forward_npu")}  # modelslim.py wraps them once for every norm.bias of a description
    try:
        if j["block_size"]:
            CompressedTensorsConfig.weight_block_size = j["block_size"]
        drafts = [False, True] if hf.get("num_nextn_predict_layers") and hf["architectures"][0] != "Glm4vMoeForConditionalGeneration" else [False]
        left = None
        for draft in drafts:
            model = build(d, draft, quantization)
            where = "draft:" if draft else ""
            result["modules"].update({where + k: v for k, v in look(model).items()})
            params = dict(model.named_parameters())
            trace, seen = Trace(params), []
            with trace:
                model.load_weights(tensors(d, trace, seen, lambda n: few and experts.left_out(n, few)))
            for n, p in params.items():
                size = experts.elements(n, tuple(p.shape), few) if few else p.numel()
                result["params"][where + n] = [str(p.dtype), size, trace.written[n], sorted(trace.dtypes[n])]
            unused = set(seen) - trace.used
            left = unused if left is None else left & unused
        result["unused"] = sorted(left or ())
    except Exception as e:  # noqa: BLE001 the engine's own message is the result
        result["error"] = f"{type(e).__name__}: {e}"
        result["trace"] = traceback.format_exc()[-3000:]
    finally:
        CompressedTensorsConfig.weight_block_size = own
        for n, f in norm.items():
            setattr(RMSNorm, n, f)
        override.restore()
    return result


def main():
    process.start()
    for line in sys.stdin:
        os.write(real, json.dumps(job(json.loads(line))).encode() + b"\n")
    os._exit(0)


main()
