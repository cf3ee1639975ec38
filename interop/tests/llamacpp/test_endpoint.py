"""`glmconv verify --endpoint` against a live `python -m llama_cpp.server`: text in, text out."""
import contextlib
import json
import sys

import pytest
from tokenizers import Tokenizer

import checkpoints as ck
import service
from test_logits import gguf

PEER = "llama-cpp-python"
MODEL = "nano-glm4moe"
READY = 600  # seconds that a server may take on a busy machine


@contextlib.contextmanager
def serving(model, tmp, logits_all=True):
    """The base URL of a server until the block ends: weights and cache in float32."""
    port = service.free_port()
    flags = {"model": gguf(model), "host": "127.0.0.1", "port": port, "logits_all": str(logits_all).lower(), "type_k": 0, "type_v": 0, "n_ctx": 512, "n_threads": 1}
    url = f"http://127.0.0.1:{port}"
    with service.peer([sys.executable, "-m", "llama_cpp.server", *(x for k, v in flags.items() for x in (f"--{k}", v))], url + "/v1/models", tmp / "server.log", READY):
        yield url


def verify(tmp, url, *args):
    out = tmp / "verify.json"
    out.unlink(missing_ok=True)
    p = ck.run(ck.BIN, "verify", *args, "--endpoint", url, "--timeout", "10m", "--progress", "none", "--state", "none", "--json", out, check=False)
    print(p.stdout, p.stderr)
    return p, json.loads(out.read_text()) if out.exists() else None


def figures(r):
    return r["servers"][0]["figures"]


def checks(r):
    return {c["id"]: c for c in r["servers"][0]["checks"]}


@pytest.mark.full
def test_right(tmp_path, note):
    """`verify --endpoint` of its server on the F32 GGUF of the BF16 source: pass, at most 1e-4 nats apart; what it cannot say (ids, tokens without a text of their own, drafts) is not called right"""
    source = ck.source(MODEL)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    start = [tokenizer.token_to_id(t) for t in ("[gMASK]", "<sop>")]
    with serving(MODEL, tmp_path) as url:
        p, r = verify(tmp_path, url, source, "--text", ck.ROOT / "LICENSE", "--tokens", "1024")
        assert (p.returncode, r["verdict"], r["servers"][0]["kind"]) == (0, "pass", "llama-cpp-python"), (r["reason"], r["failed"])
        f = figures(r)
        assert f["abs"] <= 1e-4 and f["max"] <= 1e-3 and f["kl"] <= 1e-7 and f["tokens"] >= 700
        note(f"{MODEL}: mean KL {f['kl']:.0e}, mean |difference| {f['abs']:.0e} nats, {f['tokens']} tokens of 1024; {'; '.join(n['detail'] for n in r['notes'])}")

        # prompts that begin with its own first token, which it lists in another way
        words = tokenizer.encode("The river bends twice before the old mill, and nobody who lives there remembers why.", add_special_tokens=False).ids
        (tmp_path / "ids.json").write_text(json.dumps([start + words]))
        p, r = verify(tmp_path, url, source, "--token-ids", tmp_path / "ids.json")
        assert p.returncode == 3 and figures(r)["tokens"] >= 10 and figures(r)["abs"] <= 1e-4, r["reason"]  # too few tokens for a verdict

        # text with many parts of characters: too much of the probability has no name
        p, r = verify(tmp_path, url, source, "--tokens", "512")
        assert (p.returncode, r["verdict"]) == (3, "undecided") and "cannot name" in r["reason"], (r["verdict"], r["reason"])
        assert figures(r)["abs"] <= 1e-4 and not r["failed"]

        # it has no drafts and says nothing of them
        p, r = verify(tmp_path, url, source, "--text", ck.ROOT / "LICENSE", "--tokens", "1024", "--spec-decode")
        assert p.returncode == 1 and r["servers"][0]["drafts"]["state"] == "fail" and [x["check"] for x in r["failed"]] == ["drafts"]


@pytest.mark.full
def test_wrong(tmp_path, note):
    """the same server asked for another checkpoint (a w4a16 result): it serves the original; without --logits_all it refuses, and the hint says what is missing"""
    source, result = ck.source(MODEL), ck.converted(MODEL, "w4a16", "compressed-tensors")
    with serving(MODEL, tmp_path) as url:
        p, r = verify(tmp_path, url, source, result, "--text", ck.ROOT / "LICENSE", "--tokens", "1024")
        assert (p.returncode, r["fault"]) == (1, "other model") and "serves the original" in r["cause"], r["cause"]
        note(f"w4a16 asked of it: mean KL {figures(r)['kl']:.2g}, from the original {r['servers'][0]['against_original']['kl']:.0e}: “{r['cause']}”")
    with serving(MODEL, tmp_path, logits_all=False) as url:
        p, _ = verify(tmp_path, url, source, "--tokens", "128")
        assert p.returncode == 65 and "--logits_all true" in p.stderr, p.stderr
