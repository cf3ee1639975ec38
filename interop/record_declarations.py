"""Records what the real compressed-tensors makes of the corpus of configurations: quant/declaration/testdata/answers.json.

    interop/.venv-core/bin/python interop/record_declarations.py > quant/declaration/testdata/answers.json

For each configuration of its language: the arguments of every group as its pydantic models read them, and for every Linear of
the models in modules.json the group that its matching gives, "ignored", or nothing.
"""
import importlib.metadata
import json
import pathlib
import sys
import warnings

import torch
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.utils import match

warnings.simplefilter("ignore")
DATA = pathlib.Path(__file__).resolve().parent.parent / "quant/declaration/testdata"
FIELDS = ["num_bits", "type", "symmetric", "group_size", "strategy", "block_structure", "dynamic", "actorder", "scale_dtype"]


def arguments(args):
    if args is None:
        return None
    row = {f: getattr(args, f) for f in FIELDS}
    return {k: str(v) if isinstance(v, torch.dtype) else getattr(v, "value", v) for k, v in row.items()}


def group_of(qc, linear, name):
    if match.is_match(name, linear, qc.ignore):
        return "ignored"
    targets = {t: n for n, g in qc.config_groups.items() for t in g.targets}
    hit = match.match_targets(name, linear, list(targets))
    return targets[hit[0]] if hit else ""


def answer(raw, modules):
    qc = QuantizationConfig.model_validate(raw)
    with torch.device("meta"):
        linear = torch.nn.Linear(1, 1)
    groups = {n: {"weights": arguments(g.weights), "input": arguments(g.input_activations)} for n, g in qc.config_groups.items()}
    found = {}
    for model, names in modules.items():
        found[model] = {}
        for name in names:
            found[model].setdefault(group_of(qc, linear, name), []).append(names.index(name))
    return {"groups": groups, "cache": arguments(qc.kv_cache_scheme), "modules": found}


def corpus():
    for path in sorted((DATA / "configs").glob("*.json")):
        raw = json.loads(path.read_text())
        if raw.get("quant_method") in ("compressed-tensors", "sparseml"):
            yield path.name, raw


def answers():
    modules = json.loads((DATA / "modules.json").read_text())
    return {name: answer(raw, modules) for name, raw in corpus()}


if __name__ == "__main__":
    rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in answers().items())
    sys.stdout.write('{\n "library": "compressed-tensors %s",\n "configs": {\n%s\n }\n}\n' % (importlib.metadata.version("compressed-tensors"), rows))
