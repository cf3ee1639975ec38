"""SGLang's own classes on declarations of other tools, against the record that quant/engine is tested with."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
import record_engines  # noqa: E402

PEER = "sglang"
VERSION = "0.5.23"


@pytest.mark.full
def test_declarations():
    """declarations of ModelOpt, Quark, GPTQ, AWQ and auto-round: what its classes build for every module of trunk and MTP draft, the same as recorded and as quant/engine says"""
    live, recorded = record_engines.record("sglang", record_engines.declarations()), record_engines.recorded("sglang")
    assert live["modules"] == recorded["modules"]
    wrong = {k: v for k, v in record_engines.folded(live).items() if record_engines.folded(recorded).get(k) != v}
    assert not wrong, list(wrong.items())[:3]
