"""Writes docs/interop.md from the results of the suite: table.py RESULTS_DIR > docs/interop.md"""
import json
import pathlib
import sys

HEAD = """# Interop

What the programs that read these files make of them: their own code, run on glmconv's output. Written by `make interop`; do not edit.
The suite is in [interop/](../interop/README.md); the continuous integration runs its environments "core" and "ascend" without the tests marked `full`.

| peer | version | what was run | result |
|---|---|---|---|
"""


def cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def main(folder):
    rows = []
    for f in sorted(pathlib.Path(folder).glob("*.json")):
        for r in json.loads(f.read_text()).values():
            result = []
            if r["passed"]:
                result.append(f"{r['passed']} pass")
            if r["failed"]:
                result.append(f"**{r['failed']} fail**")
            result += [f"{n} not run: {why}" for why, n in r["skipped"].items()]
            result += r["notes"]
            names = ", ".join(p for p, _ in r["peers"])
            versions = ", ".join(v for _, v in r["peers"])
            rows.append((names, versions, r["what"], "; ".join(result)))
    sys.stdout.write(HEAD)
    for r in rows:
        print("| " + " | ".join(map(cell, r)) + " |")


main(sys.argv[1])
