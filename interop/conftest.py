"""Shared fixtures, and the record of what ran, from which table.py makes docs/interop.md.

A test module names the peer's package in PEER; the first line of a test's docstring is what the table says was run.
"""
import datetime
import importlib.metadata
import json
import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "tests"))

ROWS = {}
USED = set()


def peers(module):
    names = getattr(module, "PEER", ())
    return [names] if isinstance(names, str) else list(names)


def version(module, peer):
    """Of a peer that is not installed the module names it in VERSION, by peer where there are several."""
    named = getattr(module, "VERSION", None)
    if named:
        return named[peer] if isinstance(named, dict) else named
    try:
        return importlib.metadata.version(peer)
    except importlib.metadata.PackageNotFoundError:
        return ""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    r = outcome.get_result()
    if r.skipped:
        judge_skip(item, r)
    if not (r.when == "call" or (r.when == "setup" and r.outcome != "passed")):
        return
    names = peers(item.module)
    if not names:
        return
    doc = (item.function.__doc__ or item.function.__name__).strip().splitlines()[0].rstrip(".")
    key = f"{item.module.__name__}::{item.function.__name__}"
    row = ROWS.setdefault(key, dict(peers=[[p, version(item.module, p)] for p in names],
                                    what=doc, cases={}, notes=[]))
    why = ""
    if r.skipped:
        why = (r.longrepr[2] if isinstance(r.longrepr, tuple) else str(r.longrepr)).removeprefix("Skipped: ")
    row["cases"][item.name] = [r.outcome, why, datetime.date.today().isoformat()]
    for k, v in item.user_properties:
        if k == "note" and v not in row["notes"]:
            row["notes"].append(v)


def judge_skip(item, report):
    """A skip that no line of tests/limits.py allows is a failure."""
    import limits
    why = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)
    limit = limits.known(f"{item.path.name}::{item.name}", why)
    if limit:
        USED.add(limit)
    else:
        report.outcome = "failed"
        report.longrepr = f"skipped, but tests/limits.py names no such limit of a peer: {why}"


def whole(config):
    """Is a whole environment run? A part of it is no row of the table."""
    return not (config.option.keyword or config.option.markexpr) and all("::" not in a and not a.endswith(".py") for a in config.args)


def pytest_addoption(parser):
    parser.addoption("--merge", action="store_true", help="of a part of an environment: add what ran to the results of the parts before; table.py replaces these rows and keeps the others")


def merge(path):
    """Puts the cases of this run among those that an earlier one has left."""
    old = json.loads(path.read_text()) if path.exists() else {}
    for key, row in ROWS.items():
        kept = old.setdefault(key, row)
        kept.update(peers=row["peers"], what=row["what"], cases={**kept["cases"], **row["cases"]}, notes=kept["notes"] + [n for n in row["notes"] if n not in kept["notes"]])
    path.write_text(json.dumps(old, indent=1))


def pytest_sessionfinish(session):
    import limits
    out = HERE / ".cache" / "results"
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{os.environ.get('INTEROP_ENV', 'core')}.json"
    part = path.with_suffix(".part.json")
    if not whole(session.config):
        if session.config.option.merge:
            merge(part)
        return
    # a limit that nothing meets any more has gone: its test has to run
    modules = {item.path.name for item in session.items}
    stale = [x for x in limits.LIMITS if x[1].split("::")[0].replace("\\", "") in modules and x not in USED]
    for x in stale:
        print(f"\nlimits.py: no skip of this run needs the line {x[:2]}; take it away")
    if stale and session.exitstatus == 0:
        session.exitstatus = 1
    path.write_text(json.dumps(ROWS, indent=1))
    part.unlink(missing_ok=True)


def pytest_collection_modifyitems(items):
    import checkpoints
    if not checkpoints.REFERENCE.is_dir():
        raise pytest.UsageError(f"the reference models are missing: {checkpoints.REFERENCE}; GLMCONV_SHARED names the folder that holds reference/")


@pytest.fixture
def note(record_property):
    """note("text") adds a remark to the table row of the test."""
    return lambda text: record_property("note", text)
