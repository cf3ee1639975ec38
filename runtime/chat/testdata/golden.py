"""Writes the expected prompts: Jinja2 set up as transformers sets it up.

    python3 -m pip install jinja2 && python3 golden.py
"""
import json
import pathlib

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

here = pathlib.Path(__file__).parent
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
    x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
out = {}
for path in sorted(here.glob("glm*.jinja")):
    template = env.from_string(path.read_text())
    for case in json.loads((here / "cases.json").read_text()):
        variables = dict(messages=case["messages"], tools=case.get("tools"),
                         add_generation_prompt=case.get("add_generation_prompt", True), **case.get("extra", {}))
        if "enable_thinking" in case:
            variables["enable_thinking"] = case["enable_thinking"]
        out[path.stem + "/" + case["name"]] = template.render(**variables)
(here / "golden.json").write_text(json.dumps(out, indent=1, ensure_ascii=True) + "\n")
