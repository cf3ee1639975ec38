"""llama.cpp, a second runtime that shares no code with transformers: the source in its own format, written by its own converter."""
import json
import os
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import checkpoints as ck

PEER = "llama-cpp-python"
HERE = os.path.dirname(__file__)
LLAMACPP = ck.CACHE / "llama.cpp"


def say(stderr, *words):
    """The line of a log that says why it ended."""
    lines = [x.strip() for x in stderr.splitlines() if any(w in x for w in words)]
    return lines[-1][:300] if lines else stderr[-600:]


def gguf(model):
    out = ck.CACHE / "gguf" / f"{model}-f32.gguf"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        p = subprocess.run([sys.executable, os.path.join(HERE, "convert.py"), LLAMACPP, ck.source(model), out, "f32"], capture_output=True, text=True)
        if p.returncode:
            out.unlink(missing_ok=True)
            pytest.fail("converter: " + say(p.stderr, "Error"))
    return out


def sequences(vocab):
    g = torch.Generator().manual_seed(6)
    return [torch.randint(0, vocab, (n,), generator=g).tolist() for n in (1, 2, 17, 64, 200)]


def both(model, tmp):
    """The logits of 5 random sequences in both programs, and the distance of each row in standard deviations, sorted."""
    cfg = ck.config(ck.source(model))
    (tmp / "ids.json").write_text(json.dumps(sequences(cfg.get("text_config", cfg)["vocab_size"])))
    p = subprocess.run([sys.executable, os.path.join(HERE, "logits.py"), gguf(model), tmp / "ids.json", tmp / "theirs.safetensors"], capture_output=True, text=True)
    if p.returncode:
        why = say(p.stderr, "error", "Error", "ASSERT")
        width = f"index_head_dim {cfg['index_head_dim']}: " if "index_head_dim" in cfg else ""
        pytest.skip(width + re.sub(r"^\S*/vendor/llama.cpp/", "", why))  # limits.py knows which
    ck.run(ck.BIN, "logits", "--token-ids", tmp / "ids.json", "--out", tmp / "ours.safetensors", ck.source(model))
    theirs, ours = load_file(tmp / "theirs.safetensors"), load_file(tmp / "ours.safetensors")
    assert all(ours[n].shape == t.shape for n, t in theirs.items())
    return sorted(x for n, t in theirs.items() for x in ((t - ours[n]).abs().amax(1) / t.std()).tolist())


@pytest.mark.parametrize("model", ck.MODELS)
def test_logits(model, tmp_path, note):
    """the BF16 source through its own converter to F32 GGUF: logits of 5 random sequences up to 200 tokens against `glmconv logits`, at most 2e-4 of their standard deviation apart"""
    rows = both(model, tmp_path)
    note(f"{model}: {rows[-1]:.0e}")
    assert rows[-1] <= 2e-4


@pytest.mark.parametrize("model", ["indexed-glm5", "indexed-glm52"])
def test_sparse_attention(model, tmp_path, note):
    """the same for glm_moe_dsa with random weights and an indexer of 16 heads of 128 that chooses 32 of up to 200 keys: at least 95 % of the tokens at most 2e-4 apart (equal scores at the cut may be chosen differently)"""
    rows = both(model, tmp_path)
    close = sum(x <= 2e-4 for x in rows)
    note(f"{model}: {close} of {len(rows)} tokens, median {rows[len(rows) // 2]:.0e}")
    assert close >= 0.95 * len(rows)
