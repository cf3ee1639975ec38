"""Puts argument lists (JSON, one a line, on standard input) through vLLM's own parser of `vllm serve`; prints what it read, or its error, as JSON."""
import contextlib
import io
import json
import os
import sys

import gpu

gpu.OWN.add("vllm")
gpu.pretend("cuda")
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../.cache/vllm"))  # interop/run unpacks the wheel there
from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: E402
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402

READ = ("model", "served_model_name", "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "data_parallel_size_local", "data_parallel_start_rank", "data_parallel_rank",
        "data_parallel_address", "data_parallel_rpc_port", "enable_expert_parallel", "nnodes", "node_rank", "master_addr", "max_model_len", "max_num_seqs", "max_num_batched_tokens",
        "gpu_memory_utilization", "kv_cache_dtype", "quantization", "speculative_config", "additional_config", "seed", "reasoning_parser", "enforce_eager")
OF_SERVE = ("tool_call_parser", "enable_auto_tool_choice", "host", "port", "headless")
parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
for line in sys.stdin:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            a = parser.parse_args(json.loads(line))
            if a.model_tag is not None:  # as `vllm serve` does
                a.model = a.model_tag
            validate_parsed_serve_args(a)
            e = AsyncEngineArgs.from_cli_args(a)
        answer = {**{k: getattr(e, k) for k in READ}, **{k: getattr(a, k) for k in OF_SERVE}}
    except SystemExit:  # argparse
        answer = {"error": said.getvalue().strip().splitlines()[-1]}
    except (TypeError, ValueError) as err:
        answer = {"error": str(err)}
    print(json.dumps(answer, default=str), flush=True)
