"""Writes docs/interop.md from the results of the suite: table.py RESULTS_DIR docs/interop.md

Rows of environments that have no results there are kept as they stand in the page.
"""
import json
import pathlib
import sys

HEAD = """# Interop

What the programs that read these files make of them: their own code, run on glmconv's output. Written by `make interop`; do not edit.
The suite is in [interop/](../interop/README.md); the continuous integration runs its environments "core", "ascend", "sglang", "clients" and "hubs" without the tests marked `full`.

| environment | peer | version | what was run | result |
|---|---|---|---|---|
"""

ENVIRONMENTS = sorted(p.name for p in (pathlib.Path(__file__).resolve().parent / "tests").iterdir() if p.is_dir() and not p.name.startswith("_"))


def cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def rows(env, results):
    for r in results.values():
        result = []
        if r["passed"]:
            result.append(f"{r['passed']} pass")
        if r["failed"]:
            result.append(f"**{r['failed']} fail**")
        result += [f"{n} not run: {why}" for why, n in r["skipped"].items()]
        result += r["notes"]
        names = ", ".join(p for p, _ in r["peers"])
        versions = ", ".join(v for _, v in r["peers"])
        yield "| " + " | ".join(map(cell, (env, names, versions, r["what"], "; ".join(result)))) + " |"


def main(folder, page):
    page = pathlib.Path(page)
    table = {}
    for line in page.read_text().splitlines() if page.exists() else ():
        first = line.split("|")[1].strip() if line.startswith("| ") else ""
        if first in ENVIRONMENTS:
            table.setdefault(first, []).append(line)
    for f in pathlib.Path(folder).glob("*.json"):
        table[f.stem] = list(rows(f.stem, json.loads(f.read_text())))
    page.write_text(HEAD + "".join(line + "\n" for env in sorted(table) for line in table[env]))
    print(f"interop: {page} written")


main(*sys.argv[1:])
