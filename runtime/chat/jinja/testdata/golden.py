"""Writes what Jinja2 makes of the templates in snippets.txt, set up as transformers sets it up.

    python3 -m pip install jinja2 && python3 golden.py

Snippets are separated by lines of four dashes. Where Jinja2 raises an error the golden says null.
"""
import json
import pathlib

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def refuse(message):
    raise TemplateError(message)


def environment() -> Environment:
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    env.globals["raise_exception"] = refuse
    return env


def main():
    env, out = environment(), {}
    variables = json.loads((HERE / "variables.json").read_text())
    for source in (HERE / "snippets.txt").read_text().split("\n----\n"):
        try:
            out[source] = env.from_string(source).render(**variables)
        except Exception:  # noqa: BLE001 whatever it is, the snippet is refused
            out[source] = None
    (HERE / "golden.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
