"""transformers: configs, logits of the sources and of hf-fp8 directories against our runtime, chat templates."""
import io
import json
import logging
import os
import re
import shutil

import pytest
import torch
import transformers
from compressed_tensors.quantization import disable_quantization
from safetensors.torch import load_file, save_file
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

import checkpoints as ck

PEER = "transformers"
transformers.logging.set_verbosity_error()
torch.set_num_threads(2)
DSA = ("nano-glm5", "nano-glm52")


def load(d, **kw):
    cfg = AutoConfig.from_pretrained(d)
    cls = AutoModelForImageTextToText if cfg.model_type == "glm4v_moe" else AutoModelForCausalLM
    return cls.from_pretrained(d, dtype=torch.float32, attn_implementation="eager", **kw).eval()


def sequences(vocab):
    g = torch.Generator().manual_seed(5)
    return [torch.randint(0, vocab, (n,), generator=g).tolist() for n in (1, 2, 17, 40, 96)]


def our_logits(d, seqs, tmp):
    (tmp / "ids.json").write_text(json.dumps(seqs))
    ck.run(ck.DUMP, "-logits", tmp / "ours.safetensors", "-ids", tmp / "ids.json", d)
    return load_file(tmp / "ours.safetensors")


def lowest_first(x, k, dim=-1, largest=True, sorted=True, **_):
    """torch.topk that takes the lowest index among equals, as engines do; torch's own choice is not defined."""
    v, i = torch.sort(x, dim=dim, descending=largest, stable=True)
    return torch.return_types.topk((v.narrow(dim, 0, k), i.narrow(dim, 0, k)))


@pytest.fixture
def defined_ties(monkeypatch):
    """An indexer's scores go through a ReLU, so keys with the score 0 tie exactly at the cut of the selection."""
    topk = torch.topk
    monkeypatch.setattr(torch, "topk", lambda *a, **k: lowest_first(*a, **k))
    monkeypatch.setattr(torch.Tensor, "topk", lambda x, *a, **k: lowest_first(x, *a, **k))
    return topk


def router_margins(model):
    """Hooks that note by how much every token's last expert leads the first that is not chosen; what they note, by layer, and how to remove them."""
    cfg = getattr(model.config, "text_config", model.config)
    seen = []

    def note(router, inputs, _):
        h = inputs[0].reshape(-1, router.weight.shape[1]).float()
        scores = (torch.sigmoid(h @ router.weight.float().T) + router.e_score_correction_bias).sort(descending=True).values
        seen.append(scores[:, cfg.num_experts_per_tok - 1] - scores[:, cfg.num_experts_per_tok])

    hooks = [m.register_forward_hook(note) for m in model.modules() if hasattr(m, "e_score_correction_bias") and hasattr(m, "weight")]
    return seen, lambda: [h.remove() for h in hooks]


@torch.no_grad()
def compare(model, d, tmp):
    """The rows' largest difference, rising, without rows where a choice of experts, a token's own or of one before it, is a matter of the last bits: another processor's sums choose otherwise. At most one row in fifty may be left out."""
    seqs = sequences(model.get_input_embeddings().weight.shape[0])
    ours, rows, left_out = our_logits(d, seqs, tmp), [], 0
    for i, ids in enumerate(seqs):
        margins, remove = router_margins(model)
        want, got = model(input_ids=torch.tensor([ids])).logits[0].float(), ours[f"logits.{i}"]
        remove()
        assert got.shape == want.shape
        diff = (want - got).abs().amax(1) / want.std()
        tied = torch.stack(margins).amin(0).cummin(0).values < 5e-7 if margins else torch.zeros(len(ids), dtype=torch.bool)
        out = tied & (diff > 2e-4)
        left_out += int(out.sum())
        rows += diff[~out].tolist()
    assert left_out * 50 <= len(rows) + left_out, f"{left_out} rows differ after a tie of experts"
    return sorted(rows)


def plain(d, out, tmp, dtype):
    """A directory without quantisation, its weights dequantised by glmconv and rounded to BF16, linears to `dtype`: what transformers should make of `d`."""
    out.mkdir()
    ours = load_file(ck.dequantised(d, tmp / "dequantised.safetensors"))
    tensors = {n: w.to(torch.bfloat16 if ".experts." in n else dtype) for n, w in ours.items()}
    for f in ck.shards(d):
        tensors.update({n: t for n, t in load_file(f).items() if n not in ours and n.rpartition(".weight")[0] + ".weight" not in ours})
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    cfg = ck.config(d)
    cfg.pop("quantization_config")
    (out / "config.json").write_text(json.dumps(cfg))
    shutil.copyfile(d / "tokenizer.json", out / "tokenizer.json")
    return out


def restyle(cfg, style):
    """The same configuration with the names of transformers 4 or 5."""
    out = dict(cfg)
    for d in [out] + ([dict(out["text_config"])] if "text_config" in out else []):
        rp = d.pop("rope_parameters", None) or {}
        theta, part = rp.get("rope_theta", d.pop("rope_theta", None)), rp.get("partial_rotary_factor", d.pop("partial_rotary_factor", None))
        section = rp.get("mrope_section", (d.pop("rope_scaling", None) or {}).get("mrope_section"))
        dtype = d.pop("dtype", None) or d.pop("torch_dtype", None)
        if theta is not None and style == "v5":
            d["rope_parameters"] = {k: v for k, v in dict(rope_theta=theta, rope_type="default", partial_rotary_factor=part, mrope_section=section).items() if v is not None}
        elif theta is not None:
            d["rope_theta"] = theta
            if part is not None:
                d["partial_rotary_factor"] = part
            d["rope_scaling"] = section and {"rope_type": "default", "mrope_section": section}
        if dtype:
            d["dtype" if style == "v5" else "torch_dtype"] = dtype
        if "text_config" in out and d is not out:
            out["text_config"] = d
    return out


@pytest.mark.parametrize("style", ["v4", "v5"])
@pytest.mark.parametrize("model", ck.MODELS)
def test_logits_of_the_source(model, style, tmp_path, note, defined_ties):
    """logits of the BF16 source in float32, eager attention, both config styles, 5 random sequences, against glmconv's runtime: at most 2e-4 of the logits' standard deviation apart"""
    d = tmp_path / "m"
    d.mkdir()
    for f in ck.source(model).iterdir():
        (d / f.name).hardlink_to(f) if os.stat(f).st_dev == os.stat(d).st_dev else shutil.copyfile(f, d / f.name)
    (d / "config.json").unlink()
    (d / "config.json").write_text(json.dumps(restyle(ck.config(ck.source(model)), style)))
    rows = compare(load(d), d, tmp_path)
    assert rows[-1] < 2e-4, rows[-12:]


def partial_blocks(d):
    """Flags that keep the weights in BF16 whose last block of 128 would be partly filled: its dequantiser fails on them (test_partial_blocks)."""
    wide, flags = set(), []
    for f in ck.shards(d):
        with safe_open(f, framework="pt") as st:
            for k in st.keys():
                shape = st.get_slice(k).get_shape()
                if k.endswith("_proj.weight") and len(shape) == 2 and any(n > 128 and n % 128 for n in shape):
                    wide.add(k.split(".")[-2])
    for leaf in sorted(wide):
        flags += ["--ignore", rf"re:.*\.{leaf}$"]
    return flags


@pytest.mark.parametrize("model", ck.MODELS)
def test_loads_hf_fp8(model, tmp_path, defined_ties):
    """loads our hf-fp8 directories (dequantised on the CPU): every weight equals our reader's value rounded to BF16, logits as our runtime's of these weights (2e-4 of their standard deviation); no missing or unexpected key but the MTP layer's"""
    extra = partial_blocks(ck.source(model))
    d = ck.converted(model, "fp8-block", "hf-fp8", "best", *extra)
    cfg = AutoConfig.from_pretrained(d)
    cfg.quantization_config["dequantize"] = True
    cls = AutoModelForImageTextToText if cfg.model_type == "glm4v_moe" else AutoModelForCausalLM
    m, info = cls.from_pretrained(d, config=cfg, dtype=torch.bfloat16, attn_implementation="eager", output_loading_info=True)
    mtp = f"layers.{getattr(cfg, 'text_config', cfg).num_hidden_layers}."
    assert not [k for k in info["missing_keys"]]
    assert not [k for k in info["unexpected_keys"] if mtp not in k]
    ours = load_file(ck.dequantised(d, tmp_path / "ours.safetensors"))
    params = dict(m.named_parameters())
    checked = 0
    for name, want in ours.items():
        if mtp in name:
            continue
        if ".experts." in name:
            pre, rest = name.split(".experts.")
            e, proj, _ = rest.split(".")
            n = want.shape[0]
            got = params[f"{pre}.experts.down_proj"][int(e)] if proj == "down_proj" else params[f"{pre}.experts.gate_up_proj"][int(e)][:n] if proj == "gate_proj" else params[f"{pre}.experts.gate_up_proj"][int(e)][n:]
        else:
            got = params[name]
        assert torch.equal(got, want.to(torch.bfloat16)), name
        checked += 1
    assert checked > 10
    rows = compare(m.float(), plain(d, tmp_path / "plain", tmp_path, torch.bfloat16), tmp_path)
    assert rows[-1] < 2e-4, rows[-12:]


@pytest.mark.parametrize("cols", [256, 320, 192])
def test_partial_blocks(cols):
    """peer's limit, minimal case: its block-FP8 dequantiser takes 256 columns (2 blocks of 128), refuses 320 (2.5 blocks), and gives wrong values without a word for 192 (1.5 blocks, read as 2 blocks of 96)"""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize
    op = Fp8Dequantize.__new__(Fp8Dequantize)
    scale = torch.tensor([[0.5, 2.0, 8.0][: -(-cols // 128)]])
    want = scale.repeat_interleave(128, 1)[:, :cols].expand(128, -1)
    try:
        got = op._dequantize_one(torch.ones(128, cols).to(torch.float8_e4m3fn), scale, output_dtype=torch.float32)
    except ValueError as e:
        assert cols == 320, e
        pytest.skip(f"320 columns: ValueError: {e}")
    if cols == 192 and not torch.equal(got, want):
        wrong = (got != want).any(0).nonzero().flatten()
        pytest.skip(f"192 columns: wrong values in columns {int(wrong.min())} to {int(wrong.max())}, no error")
    assert torch.equal(got, want)


def load_compressed(d):
    """The model and None, or None and a reason why it does not load."""
    cfg = AutoConfig.from_pretrained(d)
    cls = AutoModelForImageTextToText if cfg.model_type == "glm4v_moe" else AutoModelForCausalLM
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logging.disable(logging.NOTSET)
    log = logging.getLogger("transformers")
    log.addHandler(handler)
    transformers.logging.set_verbosity_warning()
    try:
        model, info = cls.from_pretrained(d, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    except Exception as e:  # noqa: BLE001 the peer's own refusal is the result
        why = re.findall(r"^Error: (.*)$", text.getvalue(), re.M)
        return None, f"{type(e).__name__}: {str(e).splitlines()[0][:60]} … {re.sub(r'layers.[0-9]+', 'layers.N', why[0]) if why else ''}"
    finally:
        log.removeHandler(handler)
        transformers.logging.set_verbosity_error()
    mtp = f"layers.{getattr(cfg, 'text_config', cfg).num_hidden_layers}."
    bad = sorted(info["missing_keys"]) + sorted(k for k in info["unexpected_keys"] if mtp not in k)
    return model, f"loads, but {len(bad)} keys are missing or unexpected, such as {re.sub('[0-9]+', 'N', bad[0])}" if bad else None


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Why llm-compressor's own directory of the same model, scheme and ignore list does not load, or None."""
    import llmcompressor.entrypoints.model_free as model_free
    from test_llmcompressor import PRESETS
    seen = {}

    def get(model, scheme):
        if (model, scheme) not in seen:
            d = tmp_path_factory.mktemp("theirs") / scheme
            ignore = ck.config(ck.converted(model, scheme, "compressed-tensors"))["quantization_config"]["ignore"]
            with pytest.MonkeyPatch.context() as m:
                save = model_free.save_file
                m.setattr(model_free, "save_file", lambda t, *a, **k: save({n: x.contiguous() for n, x in t.items()}, *a, **k))
                model_free.model_free_ptq(model_stub=str(ck.source(model)), save_directory=str(d), scheme=PRESETS[scheme], ignore=ignore, device="cpu")
            seen[model, scheme] = load_compressed(d)[1]
        return seen[model, scheme]
    return get


@pytest.mark.parametrize("model,scheme", [(m, s) for m in ck.MODELS for s in ("fp8", "fp8-block", "w8a8", "w4a8", "w4a16")])
def test_loads_compressed_tensors(model, scheme, theirs, tmp_path, defined_ties):
    """loads our compressed-tensors directories, decompressed on the CPU, all keys in place, logits as our runtime's of these weights (2e-4 of their standard deviation); not run where llm-compressor's own directory fails the same way"""
    d = ck.converted(model, scheme, "compressed-tensors")
    loaded, why = load_compressed(d)
    if why is None:
        loaded.apply(disable_quantization)  # its rounding of activations; the weights are what is compared
        for p in loaded.parameters():  # experts are decompressed to BF16, linears in float32 as they are used
            if p.dtype == torch.bfloat16:
                p.data = p.data.float()
        rows = compare(loaded, plain(d, tmp_path / "plain", tmp_path, torch.float32), tmp_path)
        assert rows[-1] < 2e-4, rows[-12:]
        return
    own = theirs(model, scheme)
    assert own == why, f"llm-compressor's own directory: {own or 'loads'}; ours: {why}"
    pytest.skip(why + " (llm-compressor's own directory: the same)")
