"""Runs an engine's own client that measures servers, from the Python files of its wheel: clients.py vllm|sglang ARGUMENTS (of `vllm bench serve` and of
`python3 -m sglang.benchmark.serving`). No adapter is asked for, so that vLLM's code for them, which imports its kernels, is left out."""
import os
import runpy
import sys

import gpu

HERE = os.path.dirname(os.path.abspath(__file__))
kind, sys.argv = sys.argv[1], sys.argv[1:]
sys.path.insert(0, os.path.join(HERE, "../../.cache", kind))  # interop/run unpacks the wheels there
if kind == "vllm":
    gpu.OWN.add("vllm")
    sys.meta_path.append(gpu.Finder())
    for name in ("vllm.lora", "vllm.lora.request", "vllm.lora.utils"):
        sys.modules[name] = gpu.Absent(name)
    from vllm.benchmarks.serve import add_cli_args, main
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    parser = FlexibleArgumentParser(prog="vllm bench serve")  # as vllm/entrypoints/cli/benchmark/serve.py does
    add_cli_args(parser)
    main(parser.parse_args())
else:
    gpu.pretend("cuda")
    runpy.run_module("sglang.benchmark.serving", run_name="__main__", alter_sys=True)
