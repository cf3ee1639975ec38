"""Shared fixtures, and the record of what ran, from which table.py makes docs/interop.md.

A test module names the peer's package in PEER; the first line of a test's docstring is what the table says was run.
"""
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


def version(peer):
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
    row = ROWS.setdefault(key, dict(peers=[[p, getattr(item.module, "VERSION", None) or version(p)] for p in names],
                                    what=doc, passed=0, failed=0, skipped={}, notes=[]))
    if r.passed:
        row["passed"] += 1
    elif r.skipped:
        why = r.longrepr[2] if isinstance(r.longrepr, tuple) else str(r.longrepr)
        why = why.removeprefix("Skipped: ")
        row["skipped"][why] = row["skipped"].get(why, 0) + 1
    else:
        row["failed"] += 1
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


def pytest_sessionfinish(session):
    import limits
    if not whole(session.config):
        return
    # a limit that nothing meets any more has gone: its test has to run
    modules = {item.path.name for item in session.items}
    stale = [x for x in limits.LIMITS if x[1].split("::")[0].replace("\\", "") in modules and x not in USED]
    for x in stale:
        print(f"\nlimits.py: no skip of this run needs the line {x[:2]}; take it away")
    if stale and session.exitstatus == 0:
        session.exitstatus = 1
    out = HERE / ".cache" / "results"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{os.environ.get('INTEROP_ENV', 'core')}.json").write_text(json.dumps(ROWS, indent=1))


def pytest_collection_modifyitems(items):
    import checkpoints
    if not checkpoints.REFERENCE.is_dir():
        raise pytest.UsageError(f"the reference models are missing: {checkpoints.REFERENCE}; GLMCONV_SHARED names the folder that holds reference/")


@pytest.fixture
def note(record_property):
    """note("text") adds a remark to the table row of the test."""
    return lambda text: record_property("note", text)
