"""vLLM's own argument parser, from the Python files of its wheel, on the commands that recipe prints for vLLM and vllm-ascend."""
import json
import os
import subprocess
import sys

import pytest

import checkpoints as ck

PEER = "vllm"
VERSION = "0.32.0"
HERE = os.path.dirname(__file__)
SOME = 41  # of the questions CI asks every 41st
OF_RANK = {"\0port": "6700", "\0rank": "0", "\0devices": "0"}  # words that a node's loop fills in
# what each flag is read as, and what is read where it is absent
NUMBERS = {"--tensor-parallel-size": ("tensor_parallel_size", 1), "--pipeline-parallel-size": ("pipeline_parallel_size", 1), "--data-parallel-size": ("data_parallel_size", 1),
           "--data-parallel-size-local": ("data_parallel_size_local", None), "--data-parallel-start-rank": ("data_parallel_start_rank", None), "--nnodes": ("nnodes", 1),
           "--data-parallel-rank": ("data_parallel_rank", None), "--data-parallel-rpc-port": ("data_parallel_rpc_port", None), "--node-rank": ("node_rank", 0),
           "--max-model-len": ("max_model_len", None), "--max-num-seqs": ("max_num_seqs", None), "--max-num-batched-tokens": ("max_num_batched_tokens", None), "--seed": ("seed", 0),
           "--port": ("port", 8000)}
WORDS = {"--quantization": ("quantization", None), "--kv-cache-dtype": ("kv_cache_dtype", "auto"), "--tool-call-parser": ("tool_call_parser", None), "--reasoning-parser": ("reasoning_parser", ""),
         "--data-parallel-address": ("data_parallel_address", None)}
SWITCHES = {"--enable-expert-parallel": "enable_expert_parallel", "--enable-auto-tool-choice": "enable_auto_tool_choice", "--headless": "headless", "--enforce-eager": "enforce_eager"}
OBJECTS = {"--speculative-config": ("speculative_config", None), "--additional-config": ("additional_config", {})}


def printed(engine, every=1):
    p = subprocess.run([ck.DUMP, "-every", str(every), "-recipes", engine], capture_output=True, text=True, check=True, timeout=1800)
    return [[OF_RANK.get(w, w) for w in json.loads(line)] for line in p.stdout.splitlines()]


def parsed(lists):
    p = subprocess.run([sys.executable, os.path.join(HERE, "vllm_arguments.py")], input="".join(json.dumps(a) + "\n" for a in lists), capture_output=True, text=True, timeout=1800,
                       env={**os.environ, "HF_HUB_OFFLINE": "0"})  # offline it looks for the model among what was downloaded
    answers = [json.loads(line) for line in p.stdout.splitlines()]
    assert len(answers) == len(lists), p.stderr[-3000:]
    return answers


def judge(lists, wrong=()):
    for argv in lists:
        assert argv[:2] == ["vllm", "serve"], argv
    answers = parsed([a[2:] for a in lists] + [["m", *w] for w in wrong])
    assert all("error" in a for a in answers[len(lists):]), answers[len(lists):]
    for argv, read in zip(lists, answers):
        assert "error" not in read, (argv, read)

        def value(flag, kind, absent):
            return kind(argv[argv.index(flag) + 1]) if flag in argv else absent

        want = {"model": argv[2]}
        for table, kind in ((NUMBERS, int), (WORDS, str), (OBJECTS, json.loads)):
            want |= {name: value(flag, kind, absent) for flag, (name, absent) in table.items()}
        want |= {name: flag in argv for flag, name in SWITCHES.items()}
        want["gpu_memory_utilization"] = value("--gpu-memory-utilization", float, 0.92)
        assert {k: read[k] for k in want} == want, argv


def test_some_arguments():
    """every 41st of the commands of recipe for vLLM and vllm-ascend: `vllm serve` takes each (FlexibleArgumentParser, AsyncEngineArgs) and reads what is meant; it refuses --disable-log-requests, --max-context-length and --enable-auto-tool-choice without a parser"""
    lists = printed("vllm", SOME) + printed("vllm-ascend", SOME)
    assert len(lists) > 20
    judge(lists, [["--disable-log-requests"], ["--max-context-length", "4096"], ["--enable-auto-tool-choice"]])


@pytest.mark.full
@pytest.mark.parametrize("engine", ["vllm", "vllm-ascend"])
def test_arguments(engine, note):
    """the commands of recipe for every preset in BF16 and three schemes, every device, one server, several, prefill and decode, every goal: the same"""
    lists = printed(engine)
    assert len(lists) > 1000
    judge(lists)
    note(f"{engine}: {len(lists)} commands")
