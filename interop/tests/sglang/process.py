"""Starts SGLang's runtime in one process: groups of one CPU process, weights in BF16."""
import tempfile

import torch
from sglang.srt import runtime_context
from sglang.srt.distributed import parallel_state


def start():
    parallel = runtime_context.get_parallel()
    parallel.override_permanently(tp_rank=0, pp_rank=0, attn_tp_rank=0, attn_dp_rank=0, moe_ep_rank=0, moe_tp_rank=0, moe_dp_rank=0, attn_cp_rank=0, attn_dcp_rank=0)
    parallel_state._group_coordinator_device = lambda rank: torch.device("cpu")  # process groups of one CPU process
    override = runtime_context.get_context().override_server_args()
    override.install()
    parallel_state.init_distributed_environment(world_size=1, rank=0, local_rank=0, distributed_init_method=f"file://{tempfile.mkdtemp()}/r", backend="gloo")
    parallel_state.initialize_model_parallel()
    override.restore()
    torch.set_default_dtype(torch.bfloat16)
