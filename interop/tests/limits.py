"""The limits of the peers: every reason for which a test may be skipped.

A skip is right only if one line of LIMITS names it: the limit's kind, the tests it may occur in (a regular expression of "module.py::test[case]")
and the peer's message (a regular expression of all of it). Any other skip is a failure (conftest.py), as is a line that no skip of a whole
environment needs any more: then the peer has learned it and the test has to run.
"""
import re

LIMITS = [
    # SGLang (what plan says of the same pair follows its message; the test checks that it is plan's verdict)
    ("no class for int4 weights with int8 activations", r"test_sglang\.py::test_(loads|full_size)\[[\w.-]+-w4a8-compressed-tensors\]",
     r"NotImplementedError: No compressed-tensors compatible scheme was found\. \(plan: no CUDA class for int4 weights with int8 activations\)"),
    ("block FP8 beside int4 experts; test_mixed_file is the minimal case", r"test_sglang\.py::test_(loads|full_size)\[[\w.-]+-w4a8-fp8-compressed-tensors\]",
     r"TypeError: 'NoneType' object is not subscriptable \(plan: SGLang 0\.5\.23 fails while it loads block FP8 beside int4 experts .*\)"),
    ("no class for MXFP8 of compressed-tensors", r"test_sglang\.py::test_micro(_full_size)?\[[\w.-]+-mxfp8(a16)?-compressed-tensors\]",
     r"AttributeError: 'NoneType' object has no attribute 'num_bits' \(plan: no compressed-tensors scheme for MXFP8\)"),
    ("packed shared experts that are not fused", r"test_sglang\.py::test_micro(_full_size)?\[[\w.-]+-int4-int8-mix-compressed-tensors\]",
     r"(AttributeError: 'MergedColumnParallelLinear' object has no attribute 'weight'|RuntimeError: The size of tensor a .*) \(plan: packed shared experts .*\)"),
    # vLLM: what its classes refuse as the plan says
    ("int4 experts with int8 activations on GPUs", r"test_loads\.py::test_full_size\[[\w.-]+-w4a8-compressed-tensors\]",
     r"NotImplementedError: W4A8 Int8 MoE is only supported on CPU platforms \(plan: int4 experts with int8 activations are for Arm CPUs .*\)"),
    # vLLM: kernels that its CPU build does not have
    ("FP8 experts", r"test_engine\.py::test_prompt_log_probabilities\[nano-glm4moe-fp8\]", r"ValueError: Unsupported FP8 MoE backend: NONE"),
    ("block-FP8 product, after a strict load", r"test_engine\.py::test_prompt_log_probabilities\[nano-glm4moe-fp8-block\]",
     r"RuntimeError: expected scalar type Float but found BFloat16"),
    ("int4 experts with int8 activations", r"test_engine\.py::test_prompt_log_probabilities\[nano-glm4moe-w4a8\]",
     r"NotImplementedError: No W4A8 Int8 MoE backend supports the deployment configuration\."),
    ("sparse attention", r"test_engine\.py::test_prompt_log_probabilities\[nano-glm5-bf16\]", r"NotImplementedError: Sparse Attention is not supported on CPU\."),
    # llama.cpp: the Hadamard product of the indexer's queries and keys takes widths of 64, 128, ... (llama-kv-cache.cpp, build_input_k_rot)
    ("width of the indexer's heads", r"test_logits\.py::test_logits\[nano-glm52?\]",
     r"index_head_dim 32: ggml/src/ggml\.c:\d+: GGML_ASSERT\(ggml_can_mul_mat\(a, b\)\) failed"),
    # transformers
    ("no fused experts for this format; llm-compressor's own directories fail the same way (test_loads_compressed_tensors compares them)",
     r"test_transformers\.py::test_loads_compressed_tensors\[[\w-]+-(fp8|fp8-block|w8a8|w4a8|w4a16)\]",
     r"RuntimeError: We encountered some issues during automatic conversion of th … (Concatenate|DecompressExperts) on tensors destined for "
     r"model\.(language_model\.)?layers\.N\.mlp\.experts\.(gate_up|down)_proj\. Ckpt contains: [02] \(llm-compressor's own directory: the same\)"),
    ("block-FP8 dequantiser: partly filled blocks refused", r"test_transformers\.py::test_partial_blocks\[320\]",
     r"320 columns: ValueError: Weight shape \(128, 320\) not divisible by scale grid \(1, 3\)\."),
    ("block-FP8 dequantiser: partly filled blocks read as smaller ones", r"test_transformers\.py::test_partial_blocks\[192\]",
     r"192 columns: wrong values in columns 96 to 127, no error"),
]


def known(test, message):
    """The line of LIMITS that allows `test` to be skipped with `message`, or None."""
    for limit in LIMITS:
        if re.fullmatch(limit[1], test) and re.fullmatch(limit[2], " ".join(message.split())):
            return limit
    return None
