"""Puts argument lists (JSON, one a line, on standard input) through SGLang's own parser; prints what it read, or its error, as JSON."""
import argparse
import contextlib
import io
import json
import os
import sys

import gpu

gpu.pretend("cuda")
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../.cache/sglang"))  # interop/run unpacks the wheel there
from sglang.srt.server_args import ServerArgs  # noqa: E402

READ = ("model_path", "served_model_name", "tp_size", "ep_size", "dp_size", "pp_size", "attn_dp_size", "nnodes", "node_rank", "dist_init_addr", "quantization", "tool_call_parser",
        "reasoning_parser", "speculative_algorithm", "speculative_num_steps", "speculative_num_draft_tokens", "context_length", "kv_cache_dtype", "disaggregation_mode", "port")
parser = argparse.ArgumentParser(prog="sglang serve")  # as prepare_server_args does, once
ServerArgs.add_cli_args(parser)
for line in sys.stdin:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            a = ServerArgs.from_cli_args(parser.parse_args(json.loads(line)))
        answer = {k: getattr(a, k) for k in READ}
    except SystemExit:  # argparse
        answer = {"error": said.getvalue().strip().splitlines()[-1]}
    print(json.dumps(answer), flush=True)
