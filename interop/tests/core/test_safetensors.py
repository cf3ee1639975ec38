"""safetensors' Rust binding against glmconv's reader and writer, both ways."""
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import checkpoints as ck

PEER = "safetensors"

# dtype words of the file format, by torch dtype
WORDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}


def raw(t):
    return t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""


def theirs(d):
    """What the Rust binding sees: name -> (dtype, shape, sha256)."""
    seen = {}
    for f in ck.shards(d):
        with safe_open(f, framework="pt") as st:
            for name in st.keys():
                assert name not in seen, f"{name} is in two files"
                t = st.get_tensor(name)
                assert st.get_slice(name).get_dtype() == WORDS[t.dtype]
                seen[name] = (WORDS[t.dtype], tuple(t.shape), hashlib.sha256(raw(t)).hexdigest())
    return seen


@pytest.mark.parametrize("model,scheme,fmt", ck.matrix(), ids=ck.ids(ck.matrix()))
def test_opens_what_we_write(model, scheme, fmt):
    """opens every file of every conversion: names, dtypes, shapes and bytes as our reader's; index and file agree"""
    d = ck.converted(model, scheme, fmt)
    seen = theirs(d)
    assert seen == ck.ours(d)
    index = json.loads(next(d.glob("*.safetensors.index.json")).read_text())
    assert set(index["weight_map"]) == set(seen)
    for f in ck.shards(d):
        with safe_open(f, framework="pt") as st:
            assert {index["weight_map"][k] for k in st.keys()} <= {f.name}
            # loaders that map the file need tensors at multiples of their element size
            header_len = int.from_bytes(f.open("rb").read(8), "little")
            header = json.loads(f.read_bytes()[8:8 + header_len])
            for name, e in header.items():
                if name == "__metadata__":
                    continue
                size = {"I64": 8, "F64": 8, "I32": 4, "F32": 4, "BF16": 2, "F16": 2, "I16": 2}.get(e["dtype"], 1)
                assert (8 + header_len + e["data_offsets"][0]) % size == 0, name
            assert st.metadata().get("format") == "pt"


@pytest.mark.parametrize("model,scheme,fmt", ck.matrix(), ids=ck.ids(ck.matrix()))
def test_unquantised_tensors_keep_their_bytes(model, scheme, fmt):
    """read by the Rust binding, every tensor that has its source's dtype and shape has its source's bytes; the router bias is F32"""
    src, dst = theirs(ck.source(model)), theirs(ck.converted(model, scheme, fmt))
    kept = [n for n in src if n in dst and dst[n][:2] == src[n][:2]]
    assert kept and all(src[n] == dst[n] for n in kept)
    for n in src:
        if n.endswith("e_score_correction_bias"):
            assert n in kept and src[n][0] == "F32"
        assert n in dst or n.removesuffix("weight") + "weight_packed" in dst, f"{n} is lost"


def test_reads_what_it_writes(tmp_path):
    """its files with every dtype, scalars, empty tensors, odd names and metadata read by us: names, dtypes, shapes, bytes"""
    rng = np.random.default_rng(3)
    tensors = {}
    for dt, word in WORDS.items():
        for shape in [(), (1,), (3,), (7, 5), (2, 3, 4), (0,), (4, 0, 2)]:
            n = int(np.prod(shape, dtype=int)) * dt.itemsize
            b = rng.integers(0, 2 if dt == torch.bool else 256, n, dtype=np.uint8)
            tensors[f"{word}.{'x'.join(map(str, shape)) or 'scalar'}"] = torch.frombuffer(bytearray(b.tobytes() or b"\0"), dtype=torch.uint8)[:n].view(dt).reshape(shape)
    tensors['odd "name" \\ ü 中 \t.weight'] = torch.arange(5)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt", "käse": "\n"})
    got = ck.ours(tmp_path)
    assert got == {n: (WORDS[t.dtype], tuple(t.shape), hashlib.sha256(raw(t)).hexdigest()) for n, t in tensors.items()}


@pytest.mark.parametrize("model", ck.MODELS)
def test_convert_its_files(model, tmp_path):
    """a source saved again by the Rust binding (own order of tensors, one file) converts to the same tensors as the original"""
    src, again = ck.source(model), tmp_path / "src"
    again.mkdir()
    tensors = {}
    for f in ck.shards(src):
        with safe_open(f, framework="pt") as st:
            tensors.update({k: st.get_tensor(k) for k in st.keys()})
    save_file(tensors, again / "model.safetensors", metadata={"format": "pt"})
    for f in src.iterdir():
        if f.suffix != ".safetensors" and not f.name.endswith(".index.json"):
            (again / f.name).write_bytes(f.read_bytes())
    ck.run(ck.BIN, "quantize", "--scheme", "fp8", "--progress", "none", again, tmp_path / "dst")
    assert theirs(tmp_path / "dst") == theirs(ck.converted(model, "fp8", "compressed-tensors"))
