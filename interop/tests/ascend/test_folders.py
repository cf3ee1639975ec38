"""Folders in msmodelslim's layout from the builder of ../shared/cases: nothing is found in right ones, every fault is named as docs/facts/ascend.md 5.5 has it."""
import functools
import itertools
import json
import pathlib
import re
import shutil
import sys
import tempfile

import numpy as np
import pytest

import checkpoints as ck

sys.path.insert(0, str(ck.REFERENCE.parent / "cases"))
import kit  # noqa: E402

PEER = "msmodelslim"
FACTS = ck.ROOT / "docs/facts/ascend.md"
MODELS = ["nano-glm5", "nano-glm52"]
# Shapes that no reference model has: widths of 3 and 5 times a power of two, odd numbers of heads, other depths, latent attention without an indexer.
SHAPES = {
    "three-glm5": ("nano-glm5", dict(hidden_size=192, num_attention_heads=3, num_key_value_heads=3, q_lora_rank=96, kv_lora_rank=48, intermediate_size=192, moe_intermediate_size=96, index_n_heads=3)),
    "five-glm52": ("nano-glm52", dict(hidden_size=160, num_attention_heads=5, num_key_value_heads=5, q_lora_rank=80, kv_lora_rank=80, intermediate_size=320, moe_intermediate_size=80, n_routed_experts=6)),
    "deep-glm52": ("nano-glm52", dict(num_hidden_layers=7, mlp_layer_types=["dense"] * 3 + ["sparse"] * 4, first_k_dense_replace=3, indexer_types=["full"] * 3 + ["shared", "full", "shared", "shared"])),
}
# The recipes that msmodelslim ships, as arguments of the builder; "latents" and "saved" are added here.
RECIPES = {
    "glm_5_w8a8": dict(static=True, mtp="quant"), "glm_5_1_w8a8": dict(static=True), "glm_5_1_w8a8c8": dict(static=True, c8=True),
    "glm_5_w4a8": dict(w4=True), "glm_5_w4a8-static": dict(w4=True, static=True), "glm_5_1_w4a8c8": dict(w4=True, c8=True),
    "glm_5_2_w8a8": dict(static=True, mtp="quant"), "glm_5_2_w8a8c8": dict(static=True, mtp="quant", c8=True, latents=True),
    "glm_5_3_w8a8c8": dict(mtp="quant", c8=True, latents=True),
}


def everything():
    """Every combination that the builder can make."""
    axes = dict(rot=(True, False), static=(False, True), w4=(False, True), mtp=("float", "quant", "none"), c8=(False, True))
    for n, values in enumerate(itertools.product(*axes.values())):
        how = dict(zip(axes, values), spread=n % 2 == n // 2 % 2)
        if how["mtp"] == "none":
            how["rot_weight"] = how["rot_flag"] = False  # no draft reads them
        yield how


def name_of(how):
    return "+".join(k if v is True else str(v) for k, v in how.items() if v and k not in ("rot_weight", "rot_flag")) or "plain"


FULL = [(m, name_of(h), h) for m in (*MODELS, "nano-glm5-outliers") for h in everything()]
FEW = [(m, r, {**h, "saved": True}) for m, r, h in ((m, r, h) for m in MODELS for r, h in RECIPES.items()) if (m == "nano-glm5") != ("glm_5_2" in r or "glm_5_3" in r)]
REST = [(m, r, {**h, "saved": True}) for m in SHAPES for r, h in RECIPES.items()]
# Families whose attention the builder leaves alone: no rotation, no static inputs.
OTHERS = [("nano-glm4moe", name_of(h), h) for h in (dict(rot=False), dict(rot=False, w4=True), dict(rot=False, mtp="quant"), dict(rot=False, w4=True, mtp="none"))]


@functools.cache
def source(model):
    """A reference model, or a synthetic one of another shape, where the builder finds it."""
    if model not in SHAPES:
        return ck.source(model)
    of, change = SHAPES[model]
    top = ck.CACHE / "shapes" / ck.fingerprint()
    dst = top / model
    if not (dst / "config.json").exists():
        top.mkdir(parents=True, exist_ok=True)
        cfg = ck.config(ck.REFERENCE / of)
        cfg.update(change)
        (top / f"{model}.json").write_text(json.dumps(cfg))
        ck.run(ck.SYNTH, "-config", top / f"{model}.json", "-mtp", "plain", "-seed", "5", dst)
    return dst


@pytest.fixture(scope="module")
def top():
    with tempfile.TemporaryDirectory(prefix="glmconv-folders-") as d:
        yield pathlib.Path(d)


@functools.cache
def built(top, model, how):
    """A folder that faults are made in a copy of."""
    return build(top / f"base{built.cache_info().currsize}", model, json.loads(how))


def build(dst, model, how):
    """A folder of the builder; latents: int8 caches of key-value latents too; saved: as msmodelslim's saver stores what the builder has in BF16."""
    how = dict(how)
    latents, saved = how.pop("latents", False), how.pop("saved", False)
    kit.ROOTS = [ck.REFERENCE, source(model).parent]
    kit.msmodelslim(dst, model, **how)
    layers = ck.config(dst)["num_hidden_layers"]
    if how.get("mtp") == "none":
        kit.config(dst, lambda c: c.update(num_nextn_predict_layers=0))
    if latents:
        kit.description(dst, lambda q: q.update({f"model.layers.{i}.self_attn.quant_type": "INT8_DYNAMIC" for i in range(1, layers)}))
    if saved:
        as_saved(dst)
    return dst


def as_saved(dst):
    """Norms and head in F32, several shards in the order of layers, sizes without rot.weight, the matrices of an indexer's cache those of Hadamard."""
    t = kit.flat(dst)
    rot = t.pop("rot.weight", None)
    for k, v in t.items():
        if "norm" in k or k == "lm_head.weight":
            t[k] = kit.f32(v)
        if k.endswith(("q_rot", "k_rot")):
            h = np.ones((1, 1))
            while len(h) < len(v):
                h = np.block([[h, h], [h, -h]])
            signs = np.random.default_rng(1234).integers(0, 2, len(v)) * 2 - 1
            t[k] = kit.bf16(signs[:, None] * h / len(v)**0.5)
    names = sorted(t, key=lambda k: (0, int(k.split(".")[2])) if k.startswith("model.layers.") else (1, 0))
    files = {f"quant_model_weights-{i + 1:05d}-of-00003.safetensors": {k: t[k] for k in names[i * len(names) // 3:(i + 1) * len(names) // 3]} for i in range(3)}
    if rot is not None:
        files["rot.safetensors"] = {"rot.weight": rot}
    kit.save(dst, files, dst / kit.ASCEND_INDEX)
    if rot is not None:
        kit.change(dst / kit.ASCEND_INDEX, lambda x: x["metadata"].update(total_size=x["metadata"]["total_size"] - rot.nbytes))


def examine(d):
    """Findings of check that are about the folder or vllm-ascend, and its exit code."""
    p = ck.run(ck.BIN, "check", "--weights", "--progress", "none", "--json", d, check=False)
    r = json.loads(p.stdout)
    found = [f for f in r["findings"] if f["severity"] != "info" and f.get("engine") != "sglang"]
    return p.returncode, found, {e["engine"]: e for e in r["engines"]}


def verified(top, src, d):
    """The result of verify by weights alone."""
    out = top / "verify.json"
    ck.run(ck.BIN, "verify", "--skip-forward", "--state", "none", "--progress", "none", "--json", out, src, d, check=False)
    return json.loads(out.read_text())


def truth(top, model, how):
    """The source that a folder was made of."""
    if not how.get("spread"):
        return source(model)
    d = top / f"{model}-spread"
    if not d.exists():
        kit.ROOTS = [ck.REFERENCE, source(model).parent]
        kit.spread_source(model, d)
    return d


EVERY = FEW + OTHERS + REST + FULL
SAMPLE = {("nano-glm5", "glm_5_w8a8"), ("nano-glm5", "glm_5_w4a8-static"), ("nano-glm52", "glm_5_2_w8a8c8"), ("nano-glm4moe", "w4")}  # 1 to 2 s each


@pytest.mark.parametrize("model,name,how", [c if c[:2] in SAMPLE else pytest.param(*c, marks=pytest.mark.full) for c in EVERY], ids=ck.ids([c[:2] for c in EVERY]))
def test_right_folders(top, model, name, how):
    """right folders of the case builder (its recipes as saved, every combination, other shapes): check --weights finds nothing, vllm-ascend loads, verify finds no weight that is wrong"""
    d = build(top / "right", model, how)
    try:
        code, found, engines = examine(d)
        assert (code, found) == (0, [])
        assert engines["vllm-ascend"]["loads"] is True, engines["vllm-ascend"]
        r = verified(top, truth(top, model, how), d)
        left = f"model.layers.{kit.mtp_layer(d)}." if how.get("mtp") == "none" else "-"  # what no manifest says was meant
        wrong = [f for f in r["failed"] if not (f["where"].startswith(left) and "is in the source and not in the result" in f["detail"])]
        assert wrong == [] and (r["failed"] or r["verdict"] != "fail"), (r["verdict"], r["cause"], wrong)
    finally:
        shutil.rmtree(d)


# ---- faults -----------------------------------------------------------------------------------------------------

A = "model.layers.1.self_attn."
ROT, STATIC, W4, C8 = dict(spread=True), dict(static=True, mtp="quant"), dict(w4=True), dict(c8=True, w4=True)


def value(pattern, fn):
    """The first tensor that matches, changed."""
    def change(d, _):
        hit = []
        kit.edit(d, lambda k, v: {k: hit.append(k) or fn(v)} if not hit and re.search(pattern, k) else None)
        assert hit, pattern
    return change


def at(i, fn):
    """One value changed."""
    def change(v):
        v = v.copy()
        v.reshape(-1)[i] = fn(v.reshape(-1)[i])
        return v
    return change


def gone(pattern):
    return lambda d, _: kit.drop(d, pattern)


def said(fn):
    return lambda d, _: kit.description(d, fn)


def grafted(pattern, of=lambda k: k):
    """Tensors of the unrotated source in the place of the folder's."""
    def change(d, src):
        t, hit = kit.flat(src), []
        kit.edit(d, lambda k, v: {k: hit.append(k) or t[of(k)].astype(v.dtype)} if re.search(pattern, k) and of(k) in t else None)
        assert hit, pattern
    return change


def mtp_of_source(d, src):
    """Every tensor of the MTP layer is the source's, in BF16, copies included."""
    n = kit.mtp_layer(d)
    p, t = f"model.layers.{n}.", kit.flat(src)
    own = {k: v for k, v in t.items() if k.startswith(p)}
    own[p + "embed_tokens.weight"], own[p + "shared_head.head.weight"] = t["model.embed_tokens.weight"], t["lm_head.weight"]
    files = {f: {k: v for k, v in x.items() if not k.startswith(p)} for f, x in kit.load(d).items()}
    kit.save(d, {**files, "mtp_float.safetensors": own})
    kit.description(d, lambda q: {**{k: v for k, v in q.items() if not k.startswith(p)}, **{k: "FLOAT" for k in own}})


def in_optional(fn):
    def change(d, _):
        f = d / "optional" / "quarot.safetensors"
        kit.write(f, {k: fn(v) for k, v in kit.read(f).items()})
    return change


def flattened(d, _):
    (d / "optional" / "quarot.safetensors").rename(d / "quarot.safetensors")
    (d / "optional").rmdir()


def halved(pattern):
    """Codes of four rows that lost a bit, with a quant_bias that fits where there is one; the scales stayed."""
    def change(d, src):
        value(pattern + r"\.weight$", lambda v: np.concatenate([v[:4] // 2 + (v[:4] < 0), v[4:]]).astype(v.dtype))(d, src)
        t = kit.flat(d)
        (m,) = [k.removesuffix(".weight") for k in t if re.search(pattern + r"\.weight$", k)]
        if m + ".quant_bias" in t:
            z = int(t[m + ".input_offset"][0])
            value(re.escape(m) + r"\.quant_bias$", lambda _: (-z * t[m + ".weight"].astype(np.int64).sum(1)).astype(np.int32))(d, src)
    return change


def halved4(pattern):
    def change(v):
        low, high = ((v[:4].astype(np.int16) & 15) ^ 8) - 8, v[:4] >> 4
        low, high = low // 2 + (low < 0), high // 2 + (high < 0)
        return np.concatenate([((high << 4) | (low & 15)).astype(np.int8), v[4:]])
    return value(pattern, change)


def static_mlp(d, _):
    """gate and up of the dense layer static, as glm4_6v has them, with inputs of their own."""
    t, q = kit.load(d), json.loads((d / kit.DESC).read_text())
    for f in t.values():
        for i, k in enumerate([k for k in list(f) if re.fullmatch(r"model\.layers\.0\.mlp\.(gate|up)_proj\.weight", k)]):
            b, s, z = k.removesuffix("weight"), np.float32(0.0625 * (1 + i)), -3
            f[b + "deq_scale"] = (f.pop(k + "_scale")[:, 0] * s).astype(np.float32)
            f.pop(k + "_offset")
            f[b + "quant_bias"] = (-z * f[k].astype(np.int64).sum(1)).astype(np.int32)
            f[b + "input_scale"], f[b + "input_offset"] = np.array([s], np.float32), np.array([z], np.float32)
            q = {n: v for n, v in q.items() if n not in (k + "_scale", k + "_offset")}
            q.update({b + x: "W8A8" for x in ("weight", "deq_scale", "quant_bias", "input_scale", "input_offset")})
    kit.save(d, t)
    kit.dump(d / kit.DESC, q)


def shrunk(v):
    return v[:v.shape[0] // 2, :v.shape[1] // 2]


def moved(v):
    return np.roll(v, 1, 0)


def zero(v):
    return np.zeros_like(v)


def wide(v):
    return v.view(np.int32).astype(np.int64)


KINDS = f"{A}indexer.quant_type"
# name of docs/facts/ascend.md 5.5: arguments of the builder, change of the folder (its path, the source's)
FAULTS = {
    "rotated with an MTP layer, no `rot.weight`, no flag": (dict(spread=True, rot_weight=False, rot_flag=False), lambda d, _: None),
    "`rot.weight` lost, the flag kept": (ROT, gone(r"^rot\.weight$")),
    "`rot.safetensors` not copied, listed by the index": (ROT, lambda d, _: (d / "rot.safetensors").unlink()),
    "the flag lost": (ROT, said(lambda q: q.pop("is_rot_used") and None)),
    "`rot.weight` of another shape": (ROT, value(r"^rot\.weight$", shrunk)),
    "`rot.weight` of zeros": (ROT, value(r"^rot\.weight$", zero)),
    "rows of `rot.weight` moved": (ROT, value(r"^rot\.weight$", moved)),
    "NaN in `rot.weight`": (ROT, value(r"^rot\.weight$", at(7, lambda _: np.nan))),
    "`rot.weight` is the unit matrix": (ROT, value(r"^rot\.weight$", lambda v: kit.bf16(np.eye(len(v))))),
    "`rot.weight` of other gains": (ROT, value(r"^rot\.weight$", lambda v: kit.bf16(1.5 * kit.f32(v)))),
    "`rot.weight` and the flag in a family without": (None, None),
    "the MTP layer of the unrotated release": (dict(w4=True), mtp_of_source),
    "the MTP layer of the unrotated release, norms of 1": (dict(w4=True), grafted(r"^model\.layers\.3\.(eh_proj|self_attn\.o_proj)\.weight$")),
    "the draft's embedding and head lost": (ROT, gone(r"layers\.3\.(embed_tokens|shared_head\.head)\.")),
    "the draft's embedding is the unrotated one": (ROT, grafted(r"layers\.3\.embed_tokens\.", lambda k: "model.embed_tokens.weight")),
    "a norm of the trunk that is not 1": (ROT, grafted(r"layers\.1\.input_layernorm\.")),
    "the final norm is not 1": (ROT, grafted(r"^model\.norm\.")),
    "`optional/quarot.safetensors` lost": (ROT, lambda d, _: shutil.rmtree(d / "optional")),
    "`optional/quarot.safetensors` beside the shards": (ROT, flattened),
    "`global_rotation` of zeros": (ROT, in_optional(zero)),
    "`global_rotation` transposed": (ROT, in_optional(lambda v: v.T.copy())),
    "an embedding of the unrotated release": (ROT, grafted(r"^model\.embed_tokens\.")),
    "`kv_b_proj` of the unrotated release": (ROT, grafted(r"layers\.1\.self_attn\.kv_b_proj\.")),
    "`deq_scale` in 64 bits, a BF16 model": (STATIC, value(A + r"o_proj\.deq_scale$", wide)),
    "`deq_scale` in F32, a float16 model": (STATIC, lambda d, _: kit.config(d, lambda c: c.update(dtype="float16"))),
    "`deq_scale` negative": (STATIC, value(A + r"o_proj\.deq_scale$", at(2, lambda v: -v))),
    "`deq_scale` zero": (STATIC, value(A + r"q_b_proj\.deq_scale$", at(0, lambda _: 0))),
    "`deq_scale` infinite": (STATIC, value(A + r"o_proj\.deq_scale$", at(-1, lambda _: np.inf))),
    "`deq_scale` NaN": (STATIC, value(A + r"indexer\.wq_b\.deq_scale$", at(1, lambda _: np.nan))),
    "`deq_scale` doubled": (STATIC, value(A + r"o_proj\.deq_scale$", lambda v: 2 * v)),
    "`deq_scale` without the input's scale": (STATIC, value(A + r"q_b_proj\.deq_scale$", lambda v: v / np.float32(0.04))),
    "`input_scale` of q_a and kv_a unlike": (STATIC, value(A + r"q_a_proj\.input_scale$", lambda v: 1.25 * v)),
    "`input_offset` of q_a and kv_a unlike": (STATIC, value(A + r"kv_a_proj_with_mqa\.input_offset$", lambda v: v + 1)),
    "`input_scale` of gate and up unlike": (STATIC, static_mlp),
    "`input_offset` beyond int8": (STATIC, value(A + r"o_proj\.input_offset$", lambda v: v * 0 + 200)),
    "`input_offset` no integer": (STATIC, value(A + r"o_proj\.input_offset$", lambda v: v + np.float32(0.5))),
    "`input_offset` off by one": (STATIC, value(A + r"q_b_proj\.input_offset$", lambda v: v + 1)),
    "`quant_bias` of zeros": (STATIC, value(A + r"q_b_proj\.quant_bias$", zero)),
    "`quant_bias` with the other sign": (STATIC, value(A + r"q_b_proj\.quant_bias$", lambda v: -v)),
    "`quant_bias` of the next row": (STATIC, value(A + r"q_b_proj\.quant_bias$", moved)),
    "`quant_bias` lost": (STATIC, gone(A + r"o_proj\.quant_bias$")),
    "`deq_scale` lost": (STATIC, gone(A + r"o_proj\.deq_scale$")),
    "rows of int8 with half their codes": (ROT, halved(r"layers\.1\.mlp\.shared_experts\.up_proj")),
    "rows of static int8 with half their codes": (STATIC, halved(A + r"q_b_proj")),
    "rows of int4 with half their codes": (W4, halved4(r"layers\.1\.mlp\.experts\.2\.up_proj\.weight$")),
    "codes of int8 all zero": (ROT, value(r"layers\.1\.mlp\.shared_experts\.up_proj\.weight$", zero)),
    "codes of static int8 all zero": (STATIC, value(A + r"o_proj\.weight$", zero)),
    "codes of int4 all zero": (W4, value(r"layers\.1\.mlp\.experts\.2\.down_proj\.weight$", zero)),
    "int4 in the other order of halves": (W4, value(r"layers\.1\.mlp\.experts\.2\.up_proj\.weight$", lambda v: ((v.view(np.uint8) << 4) | (v.view(np.uint8) >> 4)).view(np.int8))),
    "`k_rot` of zeros": (C8, value(r"indexer\.k_rot$", zero)),
    "`q_rot` unlike `k_rot`": (C8, value(r"indexer\.q_rot$", moved)),
    "`k_rot` lost": (C8, gone(r"layers\.1\.self_attn\.indexer\.k_rot$")),
    "a layer's cache of a kind that nobody knows": (C8, said(lambda q: q.update({KINDS: "QK_INT8_DYNAMIC"}))),
    "a layer's cache without its entry": (C8, said(lambda q: q.pop(KINDS) and None)),
    "the indexer's cache without the model's key": (C8, said(lambda q: q.pop("indexer_quant_type") and None)),
    "no entry for a tensor": (W4, said(lambda q: q.pop(A + "o_proj.weight") and None)),
    "an entry of another scheme": (W4, said(lambda q: q.update({A + "o_proj.weight": "W8A8"}))),
    "`group_size` lost beside int4": (W4, said(lambda q: q.pop("group_size") and None)),
}
# The same faults in folders of GLM-5.2 and of another width, as the saver stores them.
ELSEWHERE = [(f, m, {**base, "saved": True}) for f, (base, _) in FAULTS.items() if base is not None for m in ("nano-glm52", "three-glm5")]


def rows():
    """Faults of the table in the facts: name -> (codes of check, what verify must name)."""
    section = FACTS.read_text().split("### 5.5 ")[1].split("\n## ")[0]
    out = {}
    for line in section.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and not set(cells[0]) <= {"-"} and cells[0] != "fault":
            out[cells[0]] = [re.findall(r"`([^`]+)`", c) for c in cells[1:]]
    return out


def test_table():
    """(the table of faults in docs/facts/ascend.md 5.5 is that of this suite)"""
    assert list(rows()) == list(FAULTS)


def suffer(top, fault, model, how):
    base, change = FAULTS[fault]
    d = top / "fault"
    try:
        if base is None:
            kit.ROOTS = [ck.REFERENCE]
            src = ck.source("nano-glm4moe")
            kit.msmodelslim(d, "nano-glm4moe", rot=False)
            kit.save(d, {**kit.load(d), "rot.safetensors": {"rot.weight": kit.bf16(np.eye(128))}})
            kit.description(d, lambda q: q.update(is_rot_used=True))
        else:
            src = truth(top, model, how)
            shutil.copytree(built(top, model, json.dumps(how)), d)
            change(d, src)
        _, found, _ = examine(d)
        codes, named = rows()[fault]
        assert codes or named
        if codes:
            assert set(codes) <= {f["code"] for f in found}, [(f["code"], f["where"]) for f in found]
        if named:
            r = verified(top, src, d)
            assert r["verdict"] == "fail", (r["verdict"], r["notes"])
            text = r["cause"] + "".join(f["where"] + f["detail"] for f in r["failed"])
            assert any(n in text for n in named), text
    finally:
        shutil.rmtree(d, ignore_errors=True)


@pytest.mark.parametrize("fault", [f if n % 4 == 0 else pytest.param(f, marks=pytest.mark.full) for n, f in enumerate(FAULTS)])
def test_faults(top, fault):
    """every fault of the table in docs/facts/ascend.md 5.5, in a folder of the case builder: check --weights has the code of the table, or verify names the tensor"""
    suffer(top, fault, "nano-glm5", FAULTS[fault][0])


@pytest.mark.full
@pytest.mark.parametrize("fault,model,how", ELSEWHERE, ids=[f"{m}-{name_of(h)}-{f}" for f, m, h in ELSEWHERE])
def test_faults_elsewhere(top, fault, model, how):
    """the same in folders of other recipes, of GLM-5.2 and of another width"""
    suffer(top, fault, model, how)
