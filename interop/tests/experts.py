"""Routed experts of one layer that differ in nothing but their number: an engine that loads the first, the second and the last of them loads all."""
import collections
import json
import os
import pathlib
import re

EXPERT = re.compile(r"(.*\.experts\.)(\d+)(\..*)")


def count(cfg):
    """How many a layer has, by its configuration."""
    return cfg.get("text_config", cfg)["n_routed_experts"]


def shown(n):
    """The numbers of those that stand for all n."""
    return {0, 1, n - 1}


def left_out(name, n):
    """Is it a tensor of an expert that another stands for?"""
    m = EXPERT.fullmatch(name)
    return bool(m) and int(m[2]) not in shown(n)


def elements(name, shape, n):
    """How many elements of a parameter are filled by the experts that are shown; shared experts that are fused lie behind the routed ones."""
    size = 1
    for s in shape:
        size *= s
    if ".experts." in name and shape and shape[0] - n in (0, 1):
        return size // shape[0] * (len(shown(n)) + shape[0] - n)
    return size


def tensors(d):
    """(name, (dtype, shape)) of every tensor, from the headers."""
    for f in pathlib.Path(d).glob("*.safetensors"):
        with f.open("rb") as b:
            header = json.loads(b.read(int.from_bytes(b.read(8), "little")))
        yield from ((k, (v["dtype"], tuple(v["shape"]))) for k, v in header.items() if k != "__metadata__")


def took(pid, d):
    """What a process that has loaded a directory has taken so far: processor time and its largest memory."""
    user, system = map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])
    peak = re.search(r"VmHWM:\s*(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())[1]
    return f"{sum(1 for _ in tensors(d))} tensors, {(user + system) / os.sysconf('SC_CLK_TCK'):.0f} s of processor time, {int(peak) / 2**20:.1f} GiB"


def declared(x, at=""):
    """(text, where it stands) of every key and every text of a declaration."""
    if isinstance(x, dict):
        for k, v in x.items():
            yield k, json.dumps(v, sort_keys=True) if EXPERT.fullmatch(k) else at
            yield from declared(v, f"{at}/{EXPERT.sub('', k)}")
    elif isinstance(x, list):
        for v in x:
            yield from declared(v, at)
    elif isinstance(x, str):
        yield x, at


def assert_alike(d):
    """Every expert of a layer has the tensors of every other, of the same kinds and shapes, and the declarations name all of them in the same way or none."""
    d = pathlib.Path(d)
    cfg = json.loads((d / "config.json").read_text())
    n = count(cfg)
    texts = list(declared(cfg.get("quantization_config") or {}))
    for f in ("quant_model_description.json", "hf_quant_config.json"):
        if (d / f).exists():
            texts += declared(json.loads((d / f).read_text()))
    for what in (tensors(d), texts):
        of = collections.defaultdict(list)
        for name, how in what:
            if m := EXPERT.fullmatch(name):
                of[m[1], m[3], how].append(int(m[2]))
        for key, numbers in of.items():
            assert sorted(numbers) == list(range(n)), (key, len(numbers))
