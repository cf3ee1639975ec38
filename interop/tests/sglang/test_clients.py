"""vLLM's and SGLang's own clients that measure servers, from the Python files of their wheels: beside `glmconv bench`, and against `glmconv serve`."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import pytest

import service
from checkpoints import BIN, REFERENCE, ROOT

PEER = ("vllm", "sglang")
VERSION = {"vllm": "0.32.0", "sglang": "0.5.23"}
HERE = os.path.dirname(__file__)
MODEL = REFERENCE / "nano-glm4moe"
# what our flags are called
PROTOCOLS = {"completions": ("openai", "openai", "sglang-oai"), "chat": ("openai-chat", "openai-chat", "sglang-oai-chat"), "native": ("sglang", None, "sglang")}
MEDIANS = ("median_ttft_ms", "median_tpot_ms", "median_itl_ms")
RATES = ("request_throughput", "output_throughput", "total_throughput")
NEAR = 0.03


@contextlib.contextmanager
def paced(*flags):
    """The address of a server that answers at times which its load does not change."""
    p = subprocess.Popen([str(ROOT / "bin" / "interop-paced"), "-root", str(MODEL), *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield p.stdout.readline().strip()
    finally:
        p.stdin.close()
        p.wait(30)


def client(kind, *args, cwd):
    done = subprocess.run([sys.executable, os.path.join(HERE, "clients.py"), kind, *map(str, args)], capture_output=True, text=True, timeout=900, cwd=cwd,
                          env={**os.environ, "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"})  # offline they look for the model among what was downloaded
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def of_vllm(url, backend, shape, prompts, cwd):
    path = "/v1/chat/completions" if backend.endswith("chat") else "/v1/completions"
    client("vllm", "--backend", backend, "--endpoint", path, "--base-url", url, "--tokenizer", MODEL, "--num-prompts", prompts, "--ignore-eos", "--temperature", 0,
           "--percentile-metrics", "ttft,tpot,itl,e2el", "--save-result", "--result-filename", "vllm.json", *shape, cwd=cwd)
    got = json.loads((cwd / "vllm.json").read_text())
    assert got["completed"] == prompts and got["failed"] == 0
    return {**got, "total_throughput": got["total_token_throughput"], "median_e2e_latency_ms": got["median_e2el_ms"]}


def of_sglang(url, backend, shape, prompts, cwd):
    path = cwd / "sglang.jsonl"
    path.unlink(missing_ok=True)
    client("sglang", "--backend", backend, "--base-url", url, "--model", MODEL, "--tokenizer", MODEL, "--num-prompts", prompts, "--output-file", path, *shape, cwd=cwd)
    got = json.loads(path.read_text())
    assert got["completed"] == prompts
    return got


def ours(url, backend, shape, prompts, cwd):
    path = cwd / "ours.json"
    done = subprocess.run([str(BIN), "bench", url, "--backend", backend, "--tokenizer", str(MODEL), "--num-prompts", str(prompts), "--ignore-eos", "--save-json", str(path), "--json-style", "sglang", *map(str, shape)],
                          capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    got = json.loads(path.read_text())
    assert got["completed"] == prompts
    return got


def near(got, want, what):
    """How far ours are from the client's, in percent."""
    apart = {k: 100 * (got[k] / want[k] - 1) for k in (*MEDIANS, "median_e2e_latency_ms", *RATES)}
    assert all(abs(v) <= 100 * NEAR for v in apart.values()), (what, apart, {k: (got[k], want[k]) for k in apart})
    return max(map(abs, apart.values()))


@pytest.mark.full
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_medians(protocol, tokens, tmp_path, note):
    """against a server whose times are fixed, messages of one and of three tokens, 8 requests at once, runs in turn: medians of TTFT, TPOT, ITL and E2E and the throughputs of `glmconv bench` are within 3 % of the client's"""
    own, vllm, sglang = PROTOCOLS[protocol]
    n, size = 40, ("--input-len", 16, "--output-len", 32)
    shape = (*size, "--max-concurrency", 8)
    with paced("-tokens", str(tokens), "-first", "1500ms", "-gap", f"{80 * tokens}ms") as url:
        got = [ours(url, own, shape, n, tmp_path)]
        theirs = {}
        if vllm:
            theirs["vLLM"] = of_vllm(url, vllm, (*shape, "--dataset-name", "random"), n, tmp_path)
        theirs["SGLang"] = of_sglang(url, sglang, ("--dataset-name", "random-ids", "--random-input-len", 16, "--random-output-len", 32, "--random-range-ratio", 1, "--max-concurrency", 8), n, tmp_path)
        got.append(ours(url, own, shape, n, tmp_path))
    for name, want in theirs.items():
        assert want["total_output_tokens"] == got[0]["total_output_tokens"] == 32 * n
        best = min(got, key=lambda g: abs(g["median_ttft_ms"] - want["median_ttft_ms"]))
        note(f"{name}, {protocol}, {tokens} a message: at most {near(best, want, (name, protocol, tokens)):.1f} % apart")


def with_template(to):
    """The model with a chat template, which it was published without."""
    shutil.copytree(MODEL, to)
    shutil.copy(ROOT / "runtime" / "chat" / "testdata" / "glm45.jinja", to / "chat_template.jinja")
    return to


def counted(url):
    text = urllib.request.urlopen(url + "/metrics").read().decode()
    return [int(float(re.search(rf"^vllm:{name}_tokens_total\{{.*\}} (\S+)$", text, re.M)[1])) for name in ("prompt", "generation")]


def conversations(path):
    """A file of the form of ShareGPT: questions and answers of many lengths, some too short to be taken, one of a single turn."""
    words = "the quick brown fox jumps over a lazy dog while seven old wizards watch and wonder".split()
    turn = lambda k, n: " ".join(words[(k + i * (k % 5 + 1)) % len(words)] for i in range(n))
    rows = [{"id": str(k), "conversations": [{"from": "human", "value": turn(k, 1 + k * 7 % 40)}, {"from": "gpt", "value": turn(k + 3, 1 + k * 11 % 12)}]} for k in range(200)]
    rows.append({"id": "alone", "conversations": [{"from": "human", "value": "hello"}]})
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.full
@pytest.mark.parametrize("drafts", [False, True], ids=["", "drafts"])
def test_serve(drafts, tmp_path, note):
    """`glmconv serve`, with drafts and without: both clients on every protocol finish without a failed request and count the tokens that it counts; from a file of conversations vLLM's client and ours send the same prompts"""
    shape, n = ("--input-len", 24, "--output-len", 8, "--max-concurrency", 4), 12
    said = []
    with service.serve(with_template(tmp_path / "model"), "--max-num-seqs", "4", *(["--speculative", "1"] if drafts else [])) as url:
        path = conversations(tmp_path / "conversations.json")

        def judge(name, run, *args):
            before = counted(url)
            got = run(url, *args, tmp_path)
            told = [b - a for a, b in zip(before, counted(url))]
            assert got["total_output_tokens"] == told[1], (name, told)
            if "SGLang chat" not in name:  # which counts no token of the template
                assert got["total_input_tokens"] == told[0], (name, got["total_input_tokens"], told)
            said.append(name)
        for protocol, (_, vllm, sglang) in PROTOCOLS.items():
            if vllm:
                judge("vLLM " + protocol, of_vllm, vllm, (*shape, "--dataset-name", "random"), n)
            # of random ids as text it says how many they were, not how many the text has
            dataset = ("random-ids", "--tokenize-prompt", "--random-input-len", 24, "--random-output-len", 8, "--random-range-ratio", 1) if protocol == "native" else (
                "sharegpt", "--dataset-path", path, "--sharegpt-output-len", 8)
            judge("SGLang " + protocol, of_sglang, sglang, ("--dataset-name", *dataset, "--max-concurrency", 4, "--warmup-requests", 0), n)
        sharegpt = ("--dataset-path", path, "--max-concurrency", 4)
        theirs = of_vllm(url, "openai", ("--dataset-name", "sharegpt", *sharegpt, "--seed", 0), 30, tmp_path)
        own = ours(url, "openai", ("--dataset", "sharegpt", *sharegpt, "--seed", 0), 30, tmp_path)
        assert [own[k] for k in ("total_input_tokens", "total_output_tokens")] == [theirs[k] for k in ("total_input_tokens", "total_output_tokens")]
    note(f"{len(said)} runs, no failed request")
