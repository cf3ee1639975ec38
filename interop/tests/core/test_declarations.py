"""compressed-tensors: the corpus of configurations that quant/declaration is tested with."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
import record_declarations as record

PEER = "compressed-tensors"


def test_recorded_answers():
    """its config models and matching give the recorded answers for every configuration and module that our reader of declarations is tested with"""
    recorded = json.loads((record.DATA / "answers.json").read_text())["configs"]
    assert record.answers() == recorded
