"""Records what the engines' own classes make of declarations of other tools: quant/engine/testdata/ENGINE.json.

    interop/.venv-sglang/bin/python interop/record_engines.py sglang
    interop/.venv-vllm/bin/python interop/record_engines.py vllm

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
    models = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in record["modules"].items())
    rows = ",\n".join(f"  {json.dumps(k)}: {{\n%s\n  }}" % ",\n".join(f"    {json.dumps(m)}: {json.dumps(a)}" for m, a in v.items()) for k, v in record["answers"].items())
    return '{\n "library": %s,\n "modules": {\n%s\n },\n "answers": {\n%s\n }\n}\n' % (json.dumps(record["library"]), models, rows)


if __name__ == "__main__":
    (DATA / f"{sys.argv[1]}.json").write_text(lines(record(sys.argv[1], declarations())))
