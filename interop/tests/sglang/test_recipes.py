"""SGLang's own argument parser, from the Python files of its wheel, on the commands that recipe prints."""
import json
import os
import subprocess
import sys

import pytest

import checkpoints as ck

PEER = "sglang"
VERSION = "0.5.23"
HERE = os.path.dirname(__file__)


SOME = 41  # of the questions CI asks every 41st: no list of devices, machines or goals has a multiple of it


def printed(every=1):
    p = subprocess.run([ck.DUMP, "-every", str(every), "-recipes", "sglang@" + VERSION], capture_output=True, text=True, check=True, timeout=1800)
    return [json.loads(line) for line in p.stdout.splitlines()]


def value(argv, flag, default):
    return type(default)(argv[argv.index(flag) + 1]) if flag in argv else default


def judge(lists, wrong=()):
    for argv in lists:
        assert argv[:3] == ["python3", "-m", "sglang.launch_server"], argv
    asked = [a[3:] for a in lists] + [["--model-path", "m", *w] for w in wrong]
    p = subprocess.run([sys.executable, os.path.join(HERE, "arguments.py")], input="".join(json.dumps(a) + "\n" for a in asked), capture_output=True, text=True, timeout=1800)
    answers = [json.loads(line) for line in p.stdout.splitlines()]
    assert len(answers) == len(asked), p.stderr[-3000:]
    assert all("error" in a for a in answers[len(lists):]), answers[len(lists):]
    for argv, read in zip(lists, answers):
        assert "error" not in read, (argv, read)
        want = {"model_path": value(argv, "--model-path", ""), "tp_size": value(argv, "--tp-size", 1), "ep_size": value(argv, "--ep-size", 1), "dp_size": value(argv, "--dp-size", 1),
                "attn_dp_size": value(argv, "--attn-dp-size", 1), "nnodes": value(argv, "--nnodes", 1), "node_rank": value(argv, "--node-rank", 0),
                "speculative_num_steps": value(argv, "--speculative-num-steps", 0) or None, "tool_call_parser": value(argv, "--tool-call-parser", "") or None,
                "reasoning_parser": value(argv, "--reasoning-parser", "") or None, "disaggregation_mode": value(argv, "--disaggregation-mode", "null"), "port": value(argv, "--port", 0)}
        assert {k: read[k] for k in want} == want, argv
        # what its hooks assert once a model is there
        assert read["tp_size"] % read["attn_dp_size"] == 0 and read["ep_size"] <= read["tp_size"] and (read["attn_dp_size"] == 1 or read["dp_size"] == 1), argv
        assert read["dp_size"] == 1 or read["nnodes"] == 1, argv


def test_some_arguments():
    """every 41st of the commands of recipe: ServerArgs takes each and reads the degrees, parsers and drafts that are meant; it refuses the flags of older generators: --reasoning-parser glm47, --max-context-length, --nsa-prefill-backend"""
    lists = printed(SOME)
    assert len(lists) > 20
    judge(lists, [["--reasoning-parser", "glm47"], ["--max-context-length", "4096"], ["--nsa-prefill-backend", "tilelang"]])


@pytest.mark.full
def test_arguments(note):
    """the commands of recipe for every preset in BF16 and three schemes, every device, one server, several, prefill and decode, every goal: the same"""
    lists = printed()
    assert len(lists) > 1000
    judge(lists)
    note(f"{len(lists)} commands")
