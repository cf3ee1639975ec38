"""The adjust_weight step of the vllm-ascend guide, written with the safetensors binding, against `glmconv mtp-remap`."""
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import checkpoints as ck

PEER = "safetensors"
MODELS = ["nano-glm5", "nano-glm52", "tiny-glm4moe"]


def adjust_weight(folder, layer):
    """What the script of vllm-ascend's GLM-5 guide does, for any layer number: two copies in a file of their own, listed in the index."""
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    copies = {}
    for src, dst in (("model.embed_tokens.weight", f"model.layers.{layer}.embed_tokens.weight"),
                     ("lm_head.weight", f"model.layers.{layer}.shared_head.head.weight")):
        with safe_open(folder / index["weight_map"][src], framework="pt") as st:
            copies[dst] = st.get_tensor(src)
        index["weight_map"][dst] = "mtp-others.safetensors"
    save_file(copies, folder / "mtp-others.safetensors", metadata={"format": "pt"})
    path.write_text(json.dumps(index))


def load(folder):
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    out = {}
    for name, file in index.items():
        with safe_open(folder / file, framework="pt") as st:
            out[name] = st.get_tensor(name)
    return index, out


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("in_place", [True, False], ids=["in-place", "out"])
def test_adjust_weight(model, in_place, tmp_path):
    """the guide's adjust_weight script, as a test oracle, gives the weight map and the tensors that mtp-remap gives"""
    oracle, ours = tmp_path / "oracle", tmp_path / "ours"
    shutil.copytree(ck.source(model), oracle, copy_function=shutil.copyfile)
    adjust_weight(oracle, ck.config(oracle)["num_hidden_layers"])
    if in_place:
        shutil.copytree(ck.source(model), ours, copy_function=shutil.copyfile)
        ck.run(ck.BIN, "mtp-remap", "--progress", "none", ours)
    else:
        ck.run(ck.BIN, "mtp-remap", "--progress", "none", "--out", ours, ck.source(model))
    want_map, want = load(oracle)
    got_map, got = load(ours)
    assert got_map == want_map
    for name, t in want.items():
        assert got[name].dtype == t.dtype and torch.equal(got[name], t), name
    # what the guide's script leaves wrong: the index's total
    total = json.loads((ours / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    assert total == sum(t.numel() * t.element_size() for t in got.values())


def test_copies_that_exist_are_left(tmp_path):
    """a checkpoint that has its copies (GLM-4.5) is not changed"""
    ours = tmp_path / "m"
    shutil.copytree(ck.source("nano-glm4moe"), ours, copy_function=shutil.copyfile)
    before = {f.name: f.read_bytes() for f in ours.iterdir()}
    ck.run(ck.BIN, "mtp-remap", "--progress", "none", ours)
    assert {f.name: f.read_bytes() for f in ours.iterdir()} == before
