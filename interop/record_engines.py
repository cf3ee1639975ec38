"""Records what the engines' own classes make of declarations of other tools: quant/engine/testdata/ENGINE.json.

    interop/.venv-sglang/bin/python interop/record_engines.py sglang
    interop/.venv-vllm/bin/python interop/record_engines.py vllm
    interop/.venv-core/bin/python interop/record_engines.py vllm-ascend 0.30 ASCEND_DIR VLLM_DIR

ASCEND_DIR and VLLM_DIR are unpacked source archives of vllm-ascend and of the vLLM that it goes with.

Declarations are those of testdata/foreign.json there and of quant/declaration/testdata/configs, models those of testdata/models.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent / "quant/engine/testdata"
CORPUS = HERE.parent / "quant/declaration/testdata/configs"
METHODS = ("modelopt", "quark", "gptq", "awq", "auto-round")


def declarations():
    rows = json.loads((DATA / "foreign.json").read_text())
    for path in sorted(CORPUS.glob("*.json")):
        raw = json.loads(path.read_text())
        if raw.get("quant_method") in METHODS:
            rows[path.name] = raw
    return rows


def record(engine, rows):
    """What tests/ENGINE/answers.py prints."""
    env = dict(os.environ, OMP_NUM_THREADS="1", VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_ASCEND_DIR=str(HERE / ".cache/vllm-ascend"))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(rows, f)
        f.flush()
        p = subprocess.run([sys.executable, HERE / "tests" / engine / "answers.py", DATA / "models", f.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    if not p.stdout:
        raise RuntimeError(p.stderr[-3000:])
    return json.loads(p.stdout)


def record_ascend(release, ascend, vllm):
    """What tests/vllm/answers_ascend.py prints, the answers about compressed-tensors alone: of others the platform's list says all."""
    rows = {p.name: raw for p in sorted(CORPUS.glob("*.json")) if (raw := json.loads(p.read_text())).get("quant_method") == "compressed-tensors"}
    env = dict(os.environ, VLLM_ASCEND_DIR=ascend, VLLM_DIR=vllm, VLLM_ASCEND_RELEASE=release)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(rows, f)
        f.flush()
        p = subprocess.run([sys.executable, HERE / "tests/vllm/answers_ascend.py", DATA / "vllm.json", f.name], stdout=subprocess.PIPE, text=True, env=env, check=True)
    return json.loads(p.stdout)


def recorded(engine):
    return json.loads((DATA / f"{engine}.json").read_text())


def folded(record):
    """Without the wording of complaints."""
    def fold(answers):
        out = {}
        for k, v in answers.items():
            key = k if k.startswith("*") else "!" if k.startswith("!") else k
            out[key] = "!" if k.startswith("*") else sorted(out.get(key, []) + v)
        return out
    return {name: {m: fold(a) for m, a in models.items()} for name, models in record["answers"].items()}


def lines(record):
    """One line for each model and each answer of a declaration: differences of two records can be read."""
    models = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in record.get("modules", {}).items())
    rows = ",\n".join(f"  {json.dumps(k)}: {{\n%s\n  }}" % ",\n".join(f"    {json.dumps(m)}: {json.dumps(a)}" for m, a in v.items()) for k, v in record["answers"].items())
    head = ' "platform": %s' % json.dumps(record["platform"]) if "platform" in record else ' "modules": {\n%s\n }' % models
    return '{\n "library": %s,\n%s,\n "answers": {\n%s\n }\n}\n' % (json.dumps(record["library"]), head, rows)


if __name__ == "__main__":
    if sys.argv[1] == "vllm-ascend":
        (DATA / f"vllm-ascend-{sys.argv[2]}.json").write_text(lines(record_ascend(*sys.argv[2:])))
    else:
        (DATA / f"{sys.argv[1]}.json").write_text(lines(record(sys.argv[1], declarations())))
