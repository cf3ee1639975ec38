"""SGLang's own classes and loader, from the Python files of its wheel, on our directories."""
import functools
import json
import os
import re
import subprocess
import sys

import pytest

import checkpoints as ck
import experts
import foreign

PEER = "sglang"
VERSION = "0.5.23"
HERE = os.path.dirname(__file__)
CODES = ("torch.int8", "torch.int32", "torch.float8_e4m3fn", "torch.uint8")
# unused by SGLang: the draft is bound to the target's embedding and head
SHARED = (".embed_tokens.weight", ".shared_head.head.weight")
# of int8 caches, in whose place it has one of BF16: scales of keys and values; an indexer's orthogonal matrices, which cancel out where both are left out
CACHE = (".kv_cache_scale", ".kv_cache_offset", ".indexer.q_rot", ".indexer.k_rot")
# parameters that no file fills: scales of a quantised KV cache, activation order, zero points of symmetric weights, the draft's shared embedding and head
UNFILLED = (".k_scale", ".v_scale", "g_idx", "g_idx_sort_indices", "draft:model.embed_tokens.weight", "draft:lm_head.weight",
            "_blockscale_swizzled")  # made of the block scales once they are loaded
# weights alone: placeholders of 1 that its Marlin kernels drop
UNREAD = ("input_scale",)


def unfilled(name):
    # "norm.bias" anywhere in a description (GLM-5's indexer.k_norm.bias) makes SGLang give every RMSNorm of the process a bias of zeros
    return name.endswith(UNFILLED) or (re.search(r"norm\d*\.bias$", name) and ".indexer." not in name)


def server_arguments(rows, degree):
    """What plan says of SGLang at a degree of parallelism: (loads, rule, server arguments of its flags)."""
    # One row for each answer, with the hardware that it is about: what loads somewhere first, then what Hopper refuses.
    of = [r for r in rows if r["engine"] == "sglang" and r["parallel"] == degree]
    row = min(of, key=lambda r: ([True, False, None].index(r["loads"]), "h100" not in r["hardware"].split(",")))
    return row["loads"], row["rule"], arguments(row["flags"])


# Arguments whose field has another name (arg_groups/fields/exec_.py).
FIELDS = {"fp4-gemm-backend": "fp4_gemm_runner_backend"}


def arguments(flags):
    """Flags of a serve command as server arguments, but for those of drafts."""
    args = {}
    for f in flags or ():
        name, _, value = f.removeprefix("--").partition(" ")
        if not name.startswith("speculative"):
            args[FIELDS.get(name, name.replace("-", "_"))] = value or True
    return args


def directory(model, scheme, fmt):
    if fmt == "published":
        return ck.published(model, scheme), ck.hollow(model, "w8a8", "ascend")[1]
    if scheme.endswith("+mixed"):
        return ck.hollow(model, scheme.removesuffix("+mixed"), fmt, "sglang")
    d, rows = ck.hollow(model, scheme.partition("+")[0], fmt)
    return (d if ck.preset(model).exists() or (scheme, fmt) in ck.MICRO else ck.converted(model, scheme, fmt)), rows


@functools.cache
def process(device):
    """One process a device, to which every job is a line."""
    log = open(ck.CACHE / f"sglang-{device}.log", "w+")
    return subprocess.Popen([sys.executable, os.path.join(HERE, "modules.py"), device], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True), log


def stop(device):
    """Ends the process of a device; the next job starts another."""
    p, log = process(device)
    p.stdin.close()
    p.wait()
    log.close()
    process.cache_clear()


def ask(device, d, flags, **more):
    """What modules.py says of a directory."""
    p, log = process(device)
    p.stdin.write(json.dumps(dict(dir=str(d), flags=flags, block_size=None) | more) + "\n")
    p.stdin.flush()
    line = p.stdout.readline()
    if not line:
        log.seek(0)
        process.cache_clear()
        pytest.fail(f"SGLang's process ended: {log.read()[-3000:]}")
    return json.loads(line)


REFERENCE = [(m, s, f) for m, s, f in ck.matrix()]
FULL = ck.full("compressed-tensors", "hf-fp8", "ascend", "modelopt")


def few(case, d):
    """Whether three experts of a layer stand for all (experts.py): at full size, where that is shown to be so."""
    if not ck.preset(case[0]).exists():
        return False
    experts.assert_alike(d)
    return True


def npu(case):
    return case[2] in ("ascend", "published") or case[1] == "recipe" or case[2].startswith("ascend/")


@functools.cache
def answer(case):
    d, rows = directory(*case)
    verdict = server_arguments(rows, "TP1")
    return ask("npu" if npu(case) else "cuda", d, verdict[2], few=few(case, d)), verdict


def judge(case):
    got, (loads, rule, args) = answer(case)
    assert loads is not None, f"plan does not judge it ({rule}); SGLang: {got.get('error', 'loads')}"
    if not loads:
        assert "error" in got, f"plan says that SGLang does not load it ({rule}), but it does"
        pytest.skip(got["error"] + f" (plan: {rule})")
    if rule.startswith("no speculative decoding"):
        got = without_draft(got, ck.config(directory(*case)[0])["num_hidden_layers"])
    unread = UNREAD if case[1].startswith("nvfp4a16") else static_unread(got) if npu(case) else ()
    check(got, unread, case[1].endswith("+mixed"))


def without_draft(got, layers):
    """What a server without drafts loads: the draft's parameters do not count, and nothing takes the tensors of its layer."""
    return got | {k: {n: v for n, v in got[k].items() if not n.startswith("draft:")} for k in ("params", "modules")} | {
        "unused": [n for n in got["unused"] if not n.startswith(f"model.layers.{layers}.")]}


def check(got, unread=(), mixed=False):
    assert "error" not in got, got["error"] + "\n" + got.get("trace", "")
    wrong = []
    for name, (dtype, elements, written, sources) in got["params"].items():
        if written < elements and not unfilled(name) and not name.endswith(unread):
            wrong.append((name, f"{written} of {elements} elements are loaded"))
        codes = dtype in CODES
        for s in sources if not name.endswith("weight_shape") else ():
            if "codes" in s or (s != dtype and (codes or s in CODES)):
                wrong.append((name, f"{s} read as {dtype}"))
    lost = [n for n in got["unused"] if not n.endswith(SHARED + CACHE)]
    assert not wrong and not lost, (wrong[:6], lost[:6])
    # routed experts are quantised in every layout, within a budget those of some layers
    experts = [v for k, v in got["modules"].items() if k.endswith("mlp.experts") and not k.startswith("draft:")]
    quantised = [v for v in experts if not v[1].startswith("Unquantized")]
    assert quantised and (mixed or len(quantised) == len(experts)), experts[:3]


@pytest.mark.parametrize("case", REFERENCE, ids=ck.ids(REFERENCE))
def test_loads(case):
    """its model classes (trunk and MTP draft) built on the meta device with plan's server arguments, its own loader over our files: every parameter is filled with its own kind of number, every tensor is taken"""
    judge(case)


LEARNT = ck.learnt("compressed-tensors", "hf-fp8", "ascend", full=False)
LEARNT_FULL = ck.learnt("compressed-tensors", "hf-fp8", "ascend", "modelopt", full=True)


@pytest.mark.parametrize("case", LEARNT + [pytest.param(c, marks=pytest.mark.full) for c in LEARNT_FULL], ids=ck.ids(LEARNT + LEARNT_FULL))
def test_learnt(case):
    """folded results and codes learnt from text: the same answers as for rounded ones"""
    judge(case)


PUBLISHED = [(m, k, "published") for m, k in ck.PUBLISHED_CASES if k in ("static", "rotated-w4a8")]


@pytest.mark.parametrize("case", PUBLISHED, ids=ck.ids(PUBLISHED))
def test_published(case):
    """Ascend folders as they are published, rotated and with static inputs: every parameter of trunk and draft is filled, every tensor but rot.weight is taken, for which SGLang has no place"""
    got = answer(case)[0]
    assert "error" not in got, got["error"]
    got["unused"] = [n for n in got["unused"] if n != "rot.weight"]
    unread = static_unread(got)
    assert bool(unread) == (case[1] != "rotated-w4a8")
    check(got, unread)


def static_unread(got):
    """Scales for dynamic inputs, registered beside static ones in any case."""
    static = [n.removesuffix(".deq_scale") for n in got.get("params", ()) if n.endswith(".deq_scale")]
    return tuple(f"{m}.weight_{p}" for m in static for p in ("scale", "offset"))


@pytest.mark.parametrize("model", ck.WIDE["w4a8-fp8"])
def test_mixed_file(model):
    """peer's limit, minimal case: w4a8-fp8 loads in full once the block size of merged linears is that of their own group ([128, 128]) instead of the target Linear's (none: int4)"""
    d = ck.converted(model, "w4a8-fp8", "compressed-tensors")
    check(ask("cuda", d, {"disable_shared_experts_fusion": True}, block_size=[128, 128]))


@pytest.mark.full
@pytest.mark.parametrize("case", FULL, ids=ck.ids(FULL))
def test_full_size(case):
    """the same for published models at full size (GLM-4.5 = 4.6 = 4.7, 4.5-Air, 4.5V, 4.6V, 4.7-Flash, 5 = 5.1, 5.2 = 5.3), true module lists and shapes, files without data, three experts of each layer, which the headers show to be like the rest"""
    judge(case)


ASCEND_FULL = [(m, *s.split("/", 1)) for m, s in ck.ASCEND_FULL if (m, *s.split("/", 1)) not in FULL and m != "glm-5.3" or s.startswith("recipe")]


@pytest.mark.full
@pytest.mark.parametrize("case", ASCEND_FULL, ids=ck.ids([tuple(x.replace("/", "+") for x in c) for c in ASCEND_FULL]))
def test_ascend_full_size(case):
    """Ascend's recipes and every scheme of the layout (static, C8, MX) at the true module lists of GLM-5 = 5.1, 5.2, 5.3 and 4.7, files without data: what the plan says"""
    judge(case)


MIXES = [(m, s + "+mixed", f) for m, s, f in ck.MIXES]


@pytest.mark.full
@pytest.mark.parametrize("case", MIXES, ids=ck.ids(MIXES))
def test_mixed_full_size(case):
    """results within a budget, in whose layers other modules have other formats, at the true module lists of GLM-4.5-Air, 4.7-Flash and 5, three experts of each layer"""
    judge(case)


MICRO, MICRO_FULL = ck.micro(ck.MODELS), ck.micro(ck.PRESETS)


@functools.cache
def micro(case):
    """Hollow results: what the plan says of SGLang, and what its classes and loader do."""
    d, rows = ck.hollow(*case)
    verdict = server_arguments(rows, "TP1")
    return ask("cuda", d, verdict[2], few=few(case, d)), verdict


def judge_micro(case):
    judge_answer(case, *micro(case))


def judge_answer(case, got, verdict):
    loads, rule, args = verdict
    if any(r["engine"] == "sglang" and r["answer"] == "differs" for r in ck.hollow(*case)[1]):
        with pytest.raises(AssertionError):  # it loads and something is left unset, or it stops at the draft
            check(got)
        return
    if loads is None:
        pytest.fail(f"plan does not judge it ({rule}); SGLang: {got.get('error', 'loads')}")
    if not loads:
        assert "error" in got, f"plan says that SGLang does not load it ({rule}), but it does"
        pytest.skip(got["error"] + f" (plan: {rule})")
    check(got)


@pytest.mark.parametrize("case", MICRO, ids=ck.ids(MICRO))
def test_micro(case):
    """FP4, MX and int4 beside int8 (nvfp4, nvfp4a16, mxfp4, mxfp4a16, mxfp8, mxfp8a16, int4-int8-mix), trunk and MTP draft: it loads what the plan says, and refuses the rest"""
    judge_micro(case)


@pytest.mark.full
@pytest.mark.parametrize("case", MICRO_FULL, ids=ck.ids(MICRO_FULL))
def test_micro_full_size(case):
    """FP4, MX and mixed integers for published models at full size (GLM-4.5 = 4.6 = 4.7, 4.5-Air, 4.5V, 4.6V, 4.7-Flash, 5 = 5.1, 5.2 = 5.3), true module lists and shapes, files without data, three experts of each layer, which the headers show to be like the rest"""
    judge_micro(case)


@pytest.mark.full
@pytest.mark.parametrize("model", ck.PRESETS)
def test_whole(model, note):
    """NVFP4 with all experts of all layers, trunk and MTP draft, one run for each family: as the plan says; processor time and memory of SGLang's process"""
    case = (model, "nvfp4", "compressed-tensors")
    d, rows = ck.hollow(*case)
    verdict = server_arguments(rows, "TP1")
    stop("cuda")  # the figures are those of a process that does nothing else
    got = ask("cuda", d, verdict[2])
    note(f"{model}: {experts.took(process('cuda')[0].pid, d)}")
    stop("cuda")
    judge_answer(case, got, verdict)


# Devices whose answer is asked for: that of the GPU that the process pretends to be, and where another one's kernels are meant the best.
ELSEWHERE = ("quark-mxfp4",)


@functools.cache
def judged(name):
    """What check says of SGLang for the files of another tool."""
    where = [] if name.startswith(ELSEWHERE) else ["--hardware", "h100"]
    return json.loads(ck.run(ck.BIN, "check", "--json", "--engine", "sglang@" + VERSION, *where, foreign.directories()[name], check=False).stdout)["engines"]


@pytest.mark.full
@pytest.mark.parametrize("name", foreign.NAMES)
def test_foreign(name):
    """files of ModelOpt, Quark (MXFP4, FP8, int8), AWQ, GPTQ and auto-round, whole and damaged: it loads what check says it loads, stops where check says that it refuses, and loads with something unset, left out or read as numbers where check says that it differs"""
    row = judged(name)[0]
    got = ask("cuda", foreign.directories()[name], arguments(row["flags"]))
    if row["answer"] == "refuses":
        assert "error" in got, f"check says that SGLang refuses it ({row['rule']}), but it loads"
        return
    assert row["answer"] in ("loads", "differs") and "error" not in got, (row, got.get("error"))
    if row["answer"] == "loads":
        check(got)
        return
    with pytest.raises(AssertionError):
        check(got)
