"""Makes vLLM's Python files importable where vLLM is not installed: those of its wheel and of the compressed-tensors that it pins, on top of environment
sglang, without its compiled kernels. What else they import and the environment does not have becomes modules whose names do nothing."""
import importlib.util
import os
import sys

# optional kernels: their absence is an answer
PROBED = {"aiter", "arctic_inference", "b12x", "conch", "cutlass", "deep_ep", "deep_gemm", "fbgemm_gpu", "flashinfer", "helion", "hpc", "humming", "moonep", "mori", "nixl_ep", "numba", "opentelemetry", "quark", "ray",
          "torchao", "triton_kernels", "vllm_omni"}
HERE = os.path.dirname(os.path.abspath(__file__))
KERNELS = ("_C", "_moe_C")  # the libraries of compiled kernels
WHEEL = os.path.join(HERE, "../../.cache/vllm")


def answer_for_kernels():
    """A kernel that is not there does nothing, and one that is asked whether a GPU supports something says that it does. Call after all imports."""
    import torch
    found = torch._ops._OpNamespace.__getattr__

    def look(space, name):
        try:
            return found(space, name)
        except AttributeError:
            if not space.name.startswith(KERNELS) or name.startswith("__"):
                raise
            return lambda *a, **k: True if "support" in name else None

    torch._ops._OpNamespace.__getattr__ = look


def ready():
    """Call before the first import of vllm."""
    spec = importlib.util.find_spec("vllm")
    if spec is not None and spec.origin:  # this folder, where its parent is on the path, is a package of that name without a file
        return
    sys.path.insert(0, os.path.join(HERE, "../sglang"))
    import gpu
    gpu.OWN.add("vllm")
    gpu.GUARDED |= PROBED
    sys.meta_path.append(gpu.Finder())
    sys.path.insert(0, WHEEL)
