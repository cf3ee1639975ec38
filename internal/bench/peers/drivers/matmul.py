"""PyTorch's matrix products on request: matmul.py THREADS K N

Reads {"op": "int8"|"int8dynamic"|"float32", "m": M, "seconds": S}, a line each, and answers {"seconds": time of one call}: the mean over at least S
seconds, after one call that is not counted. Weights are K x N, 12 of them in turn, so that they come from memory.
"""
import json
import os
import sys
import time

threads, k, n = map(int, sys.argv[1:4])
for v in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[v] = str(threads)
import torch  # noqa: E402

torch.set_num_threads(threads)
torch.manual_seed(0)
COPIES = 12
weights = {"float32": [torch.randn(k, n) * 0.02 for _ in range(COPIES)],
           "int8": [torch.randint(-127, 128, (n, k), dtype=torch.int8).t() for _ in range(COPIES)]}
weights["int8dynamic"] = weights["int8"]
scales = torch.rand(n) * 0.01


def dynamic(x, w):
    s = x.abs().amax(1, keepdim=True) / 127
    return torch._int_mm(torch.round(x / s).to(torch.int8), w).float() * s * scales


ops = {"float32": torch.mm, "int8": torch._int_mm, "int8dynamic": dynamic}
print(json.dumps({"version": torch.__version__}), flush=True)
for line in sys.stdin:
    r = json.loads(line)
    try:
        m, f, ws = r["m"], ops[r["op"]], weights[r["op"]]
        x = torch.randint(-127, 128, (m, k), dtype=torch.int8) if r["op"] == "int8" else torch.randn(m, k)
        f(x, ws[0])
        calls, start = 0, time.perf_counter()
        while True:
            f(x, ws[calls % COPIES])
            calls += 1
            took = time.perf_counter() - start
            if took >= r["seconds"]:
                break
        print(json.dumps({"seconds": took / calls}), flush=True)
    except Exception as e:
        print(json.dumps({"error": f"{type(e).__name__}: {e}"}), flush=True)
