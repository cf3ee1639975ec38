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


def pytest_sessionfinish(session):
    if session.config.option.keyword or session.config.option.markexpr:
        return  # a part of the environment is no row of the table
    out = HERE / ".cache" / "results"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{os.environ.get('INTEROP_ENV', 'core')}.json").write_text(json.dumps(ROWS, indent=1))


def pytest_collection_modifyitems(items):
    import checkpoints
    if not checkpoints.REFERENCE.is_dir():
        if os.environ.get("GLMCONV_REQUIRE_SHARED"):
            raise pytest.UsageError(f"the reference models are missing: {checkpoints.REFERENCE}")
        for i in items:
            i.add_marker(pytest.mark.skip(reason="the reference models are missing"))


@pytest.fixture
def note(record_property):
    """note("text") adds a remark to the table row of the test."""
    return lambda text: record_property("note", text)
