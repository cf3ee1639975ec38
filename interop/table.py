"""Writes docs/interop.md from the results of the suite: table.py RESULTS_DIR docs/interop.md

Rows of environments that have no results there are kept as they stand in the page. Of an environment of which a part was run (pytest's --merge)
the rows of that part are replaced.
"""
import collections
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
        count = collections.Counter((outcome, why) for outcome, why, _ in r["cases"].values())
        result = [f"{n} pass" for (outcome, _), n in count.items() if outcome == "passed"]
        result += [f"**{n} fail**" for (outcome, _), n in count.items() if outcome == "failed"]
        result += [f"{n} not run: {why}" for (outcome, why), n in count.items() if outcome == "skipped"]
        result += r["notes"]
        result.append("run on " + " to ".join(sorted({f([day for *_, day in r["cases"].values()]) for f in (min, max)})))
        names = ", ".join(p for p, _ in r["peers"])
        versions = ", ".join(v for _, v in r["peers"])
        yield "| " + " | ".join(map(cell, (env, names, versions, r["what"], "; ".join(result)))) + " |"


def replaced(old, new):
    """The old lines with those of `new` in the place of what they are about, and the rest of `new` behind."""
    about = lambda line: line.split(" | ")[1:5:2]  # peer and what was run
    left = {tuple(about(line)): line for line in new}
    return [left.pop(tuple(about(line)), line) for line in old] + list(left.values())


def main(folder, page):
    page = pathlib.Path(page)
    table = {}
    for line in page.read_text().splitlines() if page.exists() else ():
        first = line.split("|")[1].strip() if line.startswith("| ") else ""
        if first in ENVIRONMENTS:
            table.setdefault(first, []).append(line)
    for f in sorted(pathlib.Path(folder).glob("*.json")):
        env, _, part = f.stem.partition(".")
        new = list(rows(env, json.loads(f.read_text())))
        table[env] = replaced(table.get(env, []), new) if part else new
    page.write_text(HEAD + "".join(line + "\n" for env in sorted(table) for line in table[env]))
    print(f"interop: {page} written")


main(*sys.argv[1:])
