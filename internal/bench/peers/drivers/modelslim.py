"""msmodelslim's command line without an NPU, device "npu" read as "cpu": modelslim.py arguments of msmodelslim"""
import sys

import torch


def on_cpu(f):
    def to(self, *a, **k):
        a = tuple("cpu" if isinstance(x, str) and x.startswith("npu") else x for x in a)
        if str(k.get("device", "")).startswith("npu"):
            k["device"] = "cpu"
        return f(self, *a, **k)
    return to


torch.nn.Module.to = on_cpu(torch.nn.Module.to)
torch.Tensor.to = on_cpu(torch.Tensor.to)
from msmodelslim.cli.__main__ import main  # noqa: E402

sys.exit(main())
