"""llama.cpp, a second runtime that shares no code with transformers: the source in its own format, written by its own converter."""
import json
import os
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


@pytest.mark.parametrize("model", ck.MODELS)
def test_logits(model, tmp_path, note):
    """the BF16 source through its own converter to F32 GGUF: logits of 5 random sequences up to 200 tokens against `glmconv logits`, at most 2e-4 of the logits' standard deviation apart"""
    cfg = ck.config(ck.source(model))
    seqs = sequences(cfg.get("text_config", cfg)["vocab_size"])
    (tmp_path / "ids.json").write_text(json.dumps(seqs))
    file = gguf(model)
    p = subprocess.run([sys.executable, os.path.join(HERE, "logits.py"), file, tmp_path / "ids.json", tmp_path / "theirs.safetensors"], capture_output=True, text=True)
    if p.returncode:
        pytest.fail(say(p.stderr, "error", "Error", "ASSERT"))
    ck.run(ck.BIN, "logits", "--token-ids", tmp_path / "ids.json", "--out", tmp_path / "ours.safetensors", ck.source(model))
    theirs, ours = load_file(tmp_path / "theirs.safetensors"), load_file(tmp_path / "ours.safetensors")
    worst = 0
    for name, want in theirs.items():
        assert want.shape == ours[name].shape
        worst = max(worst, float((want - ours[name]).abs().max() / want.std()))
    note(f"{model}: {worst:.1e} of the standard deviation")
    assert worst <= 2e-4
