"""Writes the expected prompts: Jinja2 set up as transformers sets it up.

    python3 -m pip install jinja2 && python3 prompts.py

Where Jinja2 raises an error the golden says null.
"""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "jinja" / "testdata"))
from golden import environment  # noqa: E402


def main():
    env, out = environment(), {}
    for path in sorted(HERE.glob("glm*.jinja")):
        template = env.from_string(path.read_text())
        for case in json.loads((HERE / "cases.json").read_text()):
            variables = dict(messages=case["messages"], tools=case.get("tools"), documents=None,
                             add_generation_prompt=case.get("add_generation_prompt", True), **case.get("extra", {}))
            if "enable_thinking" in case:
                variables["enable_thinking"] = case["enable_thinking"]
            try:
                out[path.stem + "/" + case["name"]] = template.render(**variables)
            except Exception:  # noqa: BLE001 whatever it is, the prompt is refused
                out[path.stem + "/" + case["name"]] = None
    (HERE / "golden.json").write_text(json.dumps(out, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
