"""Makes vLLM's Python files importable where vLLM is not installed: those of its wheel and of the compressed-tensors that it pins, on top of environment
sglang, without its compiled kernels. What else they import and the environment does not have becomes modules whose names do nothing."""
import importlib.util
import os
import sys

# optional kernels: their absence is an answer
PROBED = {"aiter", "arctic_inference", "b12x", "conch", "cutlass", "deep_ep", "deep_gemm", "fbgemm_gpu", "flashinfer", "helion", "hpc", "humming", "moonep", "mori", "nixl_ep", "numba", "opentelemetry", "quark", "ray",
          "torchao", "triton_kernels", "vllm_omni"}
HERE = os.path.dirname(os.path.abspath(__file__))
WHEEL = os.path.join(HERE, "../../.cache/vllm")


def ready():
    """Call before the first import of vllm."""
    if importlib.util.find_spec("vllm") is not None:
        return
    sys.path.insert(0, os.path.join(HERE, "../sglang"))
    import gpu
    gpu.OWN.add("vllm")
    gpu.GUARDED |= PROBED
    sys.meta_path.append(gpu.Finder())
    sys.path.insert(0, WHEEL)
