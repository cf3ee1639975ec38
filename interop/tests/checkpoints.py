"""The checkpoints under test: reference models, converted by the glmconv built from this tree."""
import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "bin" / "glmconv"
DUMP = ROOT / "bin" / "interop-dump"
SYNTH = ROOT / "bin" / "glmsynth"
REFERENCE = pathlib.Path(os.environ.get("GLMCONV_SHARED", ROOT.parent / "shared")) / "reference"
CACHE = ROOT / "interop" / ".cache"

MODELS = ["nano-glm4moe", "tiny-glm4moe", "nano-glm5", "nano-glm52", "nano-glm45v"]
LAYOUTS = [
    ("fp8", "compressed-tensors"), ("fp8-block", "hf-fp8"), ("fp8-block", "compressed-tensors"),
    ("w8a8", "compressed-tensors"), ("w8a8", "ascend"), ("w4a8", "ascend"), ("w4a8", "compressed-tensors"),
    ("w4a16", "compressed-tensors"), ("w4a8-fp8", "compressed-tensors"), ("nvfp4", "modelopt"), ("nvfp4a16", "modelopt"),
]
# FP4, MX and mixed integers: experts alone, as publishers have them.
MICRO = [(s, "compressed-tensors") for s in ("nvfp4", "nvfp4a16", "mxfp4", "mxfp4a16", "mxfp8", "mxfp8a16", "int4-int8-mix")]
# The W4A8-FP8 kernel needs widths that are multiples of 256; the reference
# models have smaller ones, so this scheme runs on a synthetic checkpoint.
WIDE = {"w4a8-fp8": ["wide-glm4moe", "wide-glm5"]}
WIDE_OF = {"wide-glm4moe": "tiny-glm4moe", "wide-glm5": "nano-glm5"}
WIDER = dict(hidden_size=256, moe_intermediate_size=256, intermediate_size=512)
# llama.cpp's indexer takes heads of 64, 128, ... columns, as the published models have them.
INDEXED_OF = {"indexed-glm5": "nano-glm5", "indexed-glm52": "nano-glm52"}
INDEXED = dict(index_n_heads=16, index_head_dim=128, index_topk=32)



def distinct(folder):
    """The presets, one of those whose configurations differ in nothing but the length of the context: GLM-4.5 stands for 4.6 and 4.7, GLM-5 for 5.1."""
    seen = {}
    for p in sorted(folder.glob("*.json"), key=lambda p: p.stem):
        cfg = json.loads(p.read_text())
        cfg.pop("max_position_embeddings", None)
        seen.setdefault(json.dumps(cfg, sort_keys=True), p.stem)
    return list(seen.values())


def preset(model):
    return ROOT / "glm" / "presets" / f"{model}.json"


# Published models at full size: their true module lists, without data.
PRESETS = distinct(ROOT / "glm" / "presets")


# GLM-4.6V and 5.2 add little to 4.5V and 5 (style of the configuration; indexers shared by layers): one scheme for each layout.
TWINS = {"glm-4.6v", "glm-5.2"}
ONE = [("fp8-block", "hf-fp8"), ("w4a16", "compressed-tensors"), ("w4a8", "ascend"), ("nvfp4", "modelopt")]


def full(*formats):
    """(model, scheme, format) at full size; w4a8-fp8 only where both widths are multiples of 256, which its kernel demands."""
    def fits(m, s):
        cfg = json.loads(preset(m).read_text())
        cfg = cfg.get("text_config", cfg)
        return s != "w4a8-fp8" or not (cfg["hidden_size"] % 256 or cfg["moe_intermediate_size"] % 256)
    return [(m, s, f) for m in PRESETS for s, f in (ONE if m in TWINS else LAYOUTS) if f in formats and fits(m, s)]


def micro(models):
    """(model, scheme, format) of FP4, MX and mixed integers; where a width is no multiple of a group the plan keeps the weights as they are."""
    return [(m, s, f) for m in models for s, f in MICRO]


def models_for(scheme):
    return WIDE.get(scheme, MODELS)


def matrix(*formats):
    """(model, scheme, format) for every pair of the table whose format is asked for."""
    return [(m, s, f) for s, f in LAYOUTS if not formats or f in formats for m in models_for(s)]


def ids(rows):
    return ["-".join(map(str, r)) for r in rows]


@functools.cache
def fingerprint():
    return hashlib.sha256(BIN.read_bytes()).hexdigest()[:16]


@functools.cache
def source(model):
    if (REFERENCE / model).is_dir():
        return REFERENCE / model
    of, change = (INDEXED_OF, INDEXED) if model in INDEXED_OF else (WIDE_OF, WIDER)
    if model not in of:
        raise FileNotFoundError(f"{REFERENCE / model} is missing")
    dst = CACHE / "synthetic" / fingerprint() / model
    if not (dst / "config.json").exists():
        shutil.rmtree(dst, ignore_errors=True)
        dst.parent.mkdir(parents=True, exist_ok=True)
        cfg = config(REFERENCE / of[model])
        cfg.update(change)
        (dst.parent / (model + ".json")).write_text(json.dumps(cfg))
        run(SYNTH, "-config", dst.parent / (model + ".json"), "-mtp", "plain", "-seed", "5", dst)
    return dst


def run(*args, check=True):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    if check and p.returncode:
        raise AssertionError(f"{' '.join(map(str, args))}: exit {p.returncode}\n{p.stdout}\n{p.stderr}")
    return p


# What folds and codes that are learnt from text must not change: any loader. A scheme's name has them behind a plus sign.
LEARNT = {"gamma": ("--fold", "gamma"), "search": ("--method", "search"), "gptq": ("--method", "gptq")}


def learnt(*formats, full):
    """(model, scheme+how, format): a few of each layout; with full the whole matrix, but for formats whose plan the widths of the references leave empty."""
    few = [("nano-glm4moe", "w4a16+gptq", "compressed-tensors"), ("nano-glm5", "w8a8+search", "compressed-tensors"), ("nano-glm5", "fp8-block+gamma", "hf-fp8"),
           ("nano-glm5", "w4a8+gptq", "ascend"), ("nano-glm4moe", "w8a8+gptq", "ascend")]
    if full:
        every = [(m, f"{s}+{how}", f) for m, s, f in matrix() for how in ("gamma", "gptq")]
        few = [c for c in every if c not in few]
    return [c for c in few if c[2] in formats]


@functools.cache
def converted(model, scheme, fmt, arith="best", *extra):
    """The directory of a conversion; made once per build of glmconv."""
    scheme, _, how = scheme.partition("+")
    if how:
        extra = (*extra, *LEARNT[how], *(("--calib", str(statistics(model))) if "--method" in LEARNT[how] else ()))
        name = f"{scheme}-{fmt}-{how}"
    else:
        name = "-".join([scheme, fmt, arith, *extra]).replace("/", "_").replace("*", "+")
    dst = CACHE / "converted" / fingerprint() / model / name
    if not (dst / "glmconv-manifest.json").exists():
        shutil.rmtree(dst, ignore_errors=True)
        dst.parent.mkdir(parents=True, exist_ok=True)
        run(BIN, "quantize", "--scheme", scheme, "--format", fmt, "--arith", arith, "--progress", "none", *extra, source(model), dst)
    return dst


@functools.cache
def statistics(model):
    """What glmconv calibrate gathers of a few hundred tokens."""
    dst = CACHE / "statistics" / fingerprint() / model
    if not dst.is_dir():
        dst.parent.mkdir(parents=True, exist_ok=True)
        ids = dst.parent / f"{model}.json"
        n = config(source(model))["vocab_size"]
        ids.write_text(json.dumps([[(7 * i * i + 13 * j + 1) % (n - 100) for i in range(64)] for j in range(12)]))
        run(BIN, "calibrate", "--token-ids", ids, "--progress", "none", source(model), dst)
    return dst


# Ascend folders as they are published: rotated, with static inputs of attention, with int8 caches.
PUBLISHED = {
    "static": ("--scheme", "w8a8", "--format", "ascend", "--static", "--fold", "off", "--method", "search"),
    "rotated-static-c8": ("--scheme", "w8a8", "--format", "ascend", "--static", "--kv", "c8", "--rotate", "--method", "search"),
    "rotated-w4a8": ("--scheme", "w4a8", "--rotate"),
    "rotated-bf16": ("--scheme", "bf16", "--rotate"),
    "glm-5-w8a8": ("--recipe", "glm-5-w8a8", "--method", "search"),
    "glm-5-w4a8": ("--recipe", "glm-5-w4a8"),
    "glm-5.2-w8a8c8": ("--recipe", "glm-5.2-w8a8c8", "--method", "search"),
    "glm-5.3-w8a8c8": ("--recipe", "glm-5.3-w8a8c8"),
}
# The same at the true lists of published models: recipes, and every scheme of the layout (dynamic, static, C8, MX). GLM-5.1 is GLM-5's list, GLM-4.7 is GLM-4.5's.
ASCEND_SCHEMES = ["w8a8/ascend", "w4a8/ascend", "w8a8/ascend//static", "w4a8/ascend//static", "w8a8/ascend//c8", "w4a8/ascend//c8", "w8a8/ascend/quantize/static,c8", "mxfp8/ascend", "mxfp4/ascend"]
ASCEND_FULL = [("glm-5", "recipe/glm-5-w8a8"), ("glm-5", "recipe/glm-5-w4a8"), ("glm-5", "recipe/glm-5.1-w4a8"), ("glm-5.2", "recipe/glm-5.2-w8a8c8"), ("glm-5.3", "recipe/glm-5.3-w8a8c8")]
ASCEND_FULL += [(m, s) for m in ("glm-5", "glm-5.2", "glm-5.3", "glm-4.5") for s in ASCEND_SCHEMES]
# Layers in formats of their own, as within a budget.
MIXES = [(m, s, "compressed-tensors") for m in ("glm-4.5-air", "glm-4.7-flash", "glm-5") for s in ("w4a16", "w8a8", "fp8")]
PUBLISHED_CASES = [(m, k) for m in ("nano-glm5", "nano-glm52") for k in PUBLISHED]


@functools.cache
def published(model, kind):
    """The directory of a conversion of that kind."""
    dst = CACHE / "converted" / fingerprint() / model / f"published-{kind}"
    if not (dst / "glmconv-manifest.json").exists():
        shutil.rmtree(dst, ignore_errors=True)
        dst.parent.mkdir(parents=True, exist_ok=True)
        flags = PUBLISHED[kind]
        calib = ("--calib", statistics(model)) if "--method" in flags else ()
        run(BIN, "quantize", *flags, *calib, "--progress", "none", source(model), dst)
    return dst


@functools.cache
def hollow(model, scheme, fmt, mix=""):
    """(directory, rows): what quantize would write, with holes for data, for a preset or a reference model; rows are plan's rows on the engines.

    Scheme "recipe" and a published recipe's name are a plan of that; mix is the engine for which layers have formats of their own, as within a budget.
    """
    dst = CACHE / "hollow" / fingerprint() / "-".join(filter(None, [model, scheme, fmt.replace("/", "+"), mix]))
    rows = dst / ".engines"
    if not rows.exists():
        if preset(model).exists():
            src = CACHE / "hollow" / fingerprint() / model
            if not (src / "config.json").exists():
                src.parent.mkdir(parents=True, exist_ok=True)
                run(SYNTH, "-preset", model, "-sparse", src)
        else:
            src = source(model)
        where = ["-hardware", "h100,b200"] if (scheme, fmt) in MICRO and not mix else []
        rows.write_text(run(DUMP, "-hollow", f"{scheme}/{fmt}", *where, *(("-mix", mix) if mix else ()), "-out", dst, src).stdout)
    return dst, json.loads(rows.read_text())


def config(d):
    return json.loads((pathlib.Path(d) / "config.json").read_text())


@functools.cache
def ours(d):
    """What glmconv's reader sees: name -> (dtype, shape, sha256)."""
    out = run(DUMP, d).stdout
    rows = map(json.loads, out.splitlines())
    return {r["name"]: (r["dtype"], tuple(r["shape"] or ()), r["sha256"]) for r in rows}


def dequantised(d, out):
    """glmconv's own dequantisation: writes F32 <module>.weight of every quantised module to `out`."""
    run(DUMP, "-dequant", out, d)
    return out


def shards(d):
    return sorted(p for p in pathlib.Path(d).glob("*.safetensors"))
