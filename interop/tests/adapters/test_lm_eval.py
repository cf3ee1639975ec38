"""lm-eval's local-completions against `glmconv serve`."""
import json

import numpy as np
import pytest
from lm_eval.models.openai_completions import LocalCompletionsAPI

import service
from checkpoints import REFERENCE

PEER = "lm_eval"
CONTEXT = 5  # tokens of each sequence that are given


def golden(model):
    """(ids, logits of the last positions) of the golden sequences that have more tokens than CONTEXT: transformers' own figures."""
    data = (REFERENCE / "golden" / model / "golden.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8:8 + size])

    def array(name):
        t = head[name]
        a, b = (8 + size + x for x in t["data_offsets"])
        return np.frombuffer(data[a:b], {"F32": np.float32, "I64": np.int64, "I32": np.int32}[t["dtype"]]).reshape(t["shape"])
    return [(array(f"seq{i}.ids").reshape(-1), array(f"seq{i}.logits").astype(np.float64)) for i in range(6) if len(array(f"seq{i}.ids").reshape(-1)) > CONTEXT]


def expected(ids, logits, ctx):
    """log p of the tokens from ctx on, and whether each is the likeliest."""
    skipped = len(ids) - len(logits)
    total, greedy = 0.0, True
    for at in range(ctx, len(ids)):
        z = logits[at - 1 - skipped]
        total += z[ids[at]] - z.max() - np.log(np.exp(z - z.max()).sum())
        greedy = greedy and z[ids[at]] == z.max()
    return total, greedy


@pytest.mark.parametrize("model", ["nano-glm4moe", "nano-glm5"])
@pytest.mark.parametrize("batch", [1, 4])
def test_log_likelihoods(model, batch):
    """local-completions: log-likelihoods of continuations, ids in batches, are those of transformers to 1e-4; greedy ones are known as such"""
    with service.serve(REFERENCE / model) as url:
        lm = LocalCompletionsAPI(base_url=url + "/v1/completions", model=model, tokenizer_backend="None", batch_size=batch, num_concurrent=1)
        lm.tokenized_requests, lm.tokenizer = True, object()  # ids are sent, nothing is encoded
        cases = []
        for ids, logits in golden(model):
            ctx = max(CONTEXT, len(ids) - len(logits) + 1)
            cases.append((ids, logits, ctx))
            z = logits[-1]  # a continuation of the likeliest token
            cases.append((np.append(ids, z.argmax()), np.vstack([logits, z]), len(ids)))
        got = lm._loglikelihood_tokens([(("", ""), [int(t) for t in ids[:ctx]], [int(t) for t in ids[ctx:]]) for ids, _, ctx in cases])
    assert len(got) == len(cases)
    for (ids, logits, ctx), (value, greedy) in zip(cases, got):
        want, likeliest = expected(ids, logits, ctx)
        assert abs(value - want) < 1e-4 * max(1, len(ids) - ctx), (value, want)
        assert greedy == likeliest
    assert any(greedy for _, greedy in got)
