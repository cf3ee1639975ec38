"""SGLang's own classes and loader, from the Python files of its wheel, on our directories."""
import functools
import json
import os
import re
import subprocess
import sys

import pytest

import checkpoints as ck
import foreign

PEER = "sglang"
VERSION = "0.5.23"
HERE = os.path.dirname(__file__)
CODES = ("torch.int8", "torch.int32", "torch.float8_e4m3fn", "torch.uint8")
# unused by SGLang: the draft is bound to the target's embedding and head
SHARED = (".embed_tokens.weight", ".shared_head.head.weight")
# parameters that no file fills: scales of a quantised KV cache, activation order, zero points of symmetric weights, the draft's shared embedding and head
UNFILLED = (".k_scale", ".v_scale", "_g_idx", "g_idx_sort_indices", "draft:model.embed_tokens.weight", "draft:lm_head.weight",
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


def arguments(flags):
    """Flags of a serve command as server arguments, but for those of drafts."""
    args = {}
    for f in flags or ():
        name, _, value = f.removeprefix("--").partition(" ")
        if not name.startswith("speculative"):
            args[name.replace("-", "_")] = value or True
    return args


def directory(model, scheme, fmt):
    if fmt == "published":
        return ck.published(model, scheme), ck.hollow(model, "w8a8", "ascend")[1]
    if scheme.endswith("+mixed"):
        return ck.hollow(model, scheme.removesuffix("+mixed"), fmt, "sglang")
    d, rows = ck.hollow(model, scheme.partition("+")[0], fmt)
    return (d if model in ck.PRESETS or (scheme, fmt) in ck.MICRO else ck.converted(model, scheme, fmt)), rows


OVERRIDES = {}


def run(device, cases):
    """case -> SGLang's answer; one process for all cases."""
    jobs, names = [], []
    for case in cases:
        d, rows = directory(*case)
        flags = server_arguments(rows, "TP1")[2]
        if case in OVERRIDES:
            flags = {"disable_shared_experts_fusion": True}
        jobs.append(dict(dir=str(d), flags=flags, block_size=OVERRIDES.get(case)))
        names.append(case)
    return dict(zip(names, execute(device, jobs)))


def execute(device, jobs, name=""):
    """What modules.py says of each job."""
    path = ck.CACHE / f"sglang-jobs-{device}{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(jobs))
    p = subprocess.run([sys.executable, os.path.join(HERE, "modules.py"), device, path], capture_output=True, text=True, timeout=3600)
    lines = p.stdout.splitlines()
    assert len(lines) == len(jobs), p.stderr[-3000:]
    return list(map(json.loads, lines))


results = functools.cache(run)
REFERENCE = [(m, s, f) for m, s, f in ck.matrix()]
FULL = ck.full("compressed-tensors", "hf-fp8", "ascend", "modelopt")


def npu(case):
    return case[2] == "ascend"


def answer(case):
    group = next(g for g in (REFERENCE + LEARNT, LEARNT_FULL, FULL, MIXES) if case in g)
    together = group in (REFERENCE + LEARNT, LEARNT_FULL)  # those of full size by their model
    same = tuple(c for c in group if npu(c) == npu(case) and (together or c[0] == case[0]))
    return results("npu" if npu(case) else "cuda", same)[case], server_arguments(directory(*case)[1], "TP1")


def judge(case):
    got, (loads, rule, args) = answer(case)
    if not loads:
        assert "error" in got, f"plan says that SGLang does not load it ({rule}), but it does"
        pytest.skip(got["error"] + f" (plan: {rule})")
    check(got, UNREAD if case[1].startswith("nvfp4a16") else (), case[1].endswith("+mixed"))


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
    lost = [n for n in got["unused"] if not n.endswith(SHARED)]
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
    got = results("npu", tuple(PUBLISHED))[case]
    assert "error" not in got, got["error"]
    got["unused"] = [n for n in got["unused"] if n != "rot.weight"]
    unread = static_unread(got)
    assert bool(unread) == (case[1] != "rotated-w4a8")
    check(got, unread)


def static_unread(got):
    """Scales for dynamic inputs, registered beside static ones in any case."""
    static = [n.removesuffix(".deq_scale") for n in got["params"] if n.endswith(".deq_scale")]
    return tuple(f"{m}.weight_{p}" for m in static for p in ("scale", "offset"))


@pytest.mark.parametrize("model", ck.WIDE["w4a8-fp8"])
def test_mixed_file(model):
    """peer's limit, minimal case: w4a8-fp8 loads in full once the block size of merged linears is that of their own group ([128, 128]) instead of the target Linear's (none: int4)"""
    case = (model, "w4a8-fp8", "compressed-tensors")
    with pytest.MonkeyPatch.context() as m:
        m.setitem(OVERRIDES, case, [128, 128])
        check(run("cuda", (case,))[case])


@pytest.mark.full
@pytest.mark.parametrize("case", FULL, ids=ck.ids(FULL))
def test_full_size(case):
    """the same for published models at full size (GLM-4.5 = 4.6 = 4.7, 4.5-Air, 4.5V, 4.6V, 4.7-Flash, 5 = 5.1, 5.2), true module lists and shapes, files without data"""
    judge(case)


MIXES = [(m, s + "+mixed", f) for m, s, f in ck.MIXES]


@pytest.mark.full
@pytest.mark.parametrize("case", MIXES, ids=ck.ids(MIXES))
def test_mixed_full_size(case):
    """results within a budget, in whose layers other modules have other formats, at the true module lists of GLM-4.5-Air, 4.7-Flash and 5"""
    judge(case)


MICRO, MICRO_FULL = ck.micro(ck.MODELS), ck.micro(ck.PRESETS)


def micro(case):
    """Hollow results: what the plan says of SGLang, and what its classes and loader do."""
    same = tuple(c for c in (MICRO if case in MICRO else MICRO_FULL) if case in MICRO or c[0] == case[0])
    return results("cuda", same)[case], server_arguments(ck.hollow(*case)[1], "TP1")


def judge_micro(case):
    got, (loads, rule, args) = micro(case)
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
    """the same for published models at full size (GLM-4.5 = 4.6 = 4.7, 4.5-Air, 4.5V, 4.6V, 4.7-Flash, 5 = 5.1, 5.2, 5.3), true module lists and shapes, files without data"""
    judge_micro(case)


@functools.cache
def judged(name):
    """What check says of SGLang for the files of another tool."""
    return json.loads(ck.run(ck.BIN, "check", "--json", "--engine", "sglang@" + VERSION, foreign.directories()[name], check=False).stdout)["engines"]


@functools.cache
def foreign_results():
    jobs = [dict(dir=str(d), flags=arguments(judged(n)[0]["flags"]), block_size=None) for n, d in foreign.directories().items()]
    return dict(zip(foreign.directories(), execute("cuda", jobs, "foreign")))


@pytest.mark.full
@pytest.mark.parametrize("name", foreign.NAMES)
def test_foreign(name):
    """files of ModelOpt, Quark (MXFP4, FP8, int8), AWQ, GPTQ and auto-round: it loads what check says it loads, and stops at the rest or leaves something unset"""
    row = judged(name)[0]
    got = foreign_results()[name]
    if row["answer"] == "loads":
        check(got)
    else:
        assert row["answer"] != "not-judged", row
        with pytest.raises(AssertionError):
            check(got)
