"""A checkpoint that says what it is told to: nano-glm45v, whose layers add nothing and whose head names the token behind each token of a script.

So the answer to every prompt is known, with sampling and without: reasoning, an answer, a tool call with arguments, the end.
"""
import json
import re
import shutil

import numpy as np

from checkpoints import REFERENCE, ROOT

REASONING, ANSWER = "The user wants to know", "Let me look for it"
NAME, KEY, VALUE = "get_weather", "location", "Beijing"
SCRIPT = ["<|assistant|>", "<think>", REASONING, "</think>", ANSWER, "<tool_call>", NAME + "\n", "<arg_key>", KEY, "</arg_key>", "<arg_value>", VALUE, "</arg_value>", "</tool_call>", "<|user|>"]


def tokens():
    """The script in tokens, each of which comes once, so that what stands behind one is certain. Words are added to the vocabulary, where it has rows to spare."""
    tok = json.loads((REFERENCE / "nano-glm45v" / "tokenizer.json").read_text())
    known = {a["content"]: a["id"] for a in tok["added_tokens"]}
    ids, end = [], max(known.values()) + 1
    for part in SCRIPT:
        if part in known:
            ids.append(known[part])
            continue
        for word in re.findall(r"\s?\S+\s?$|\s?\S+", part):
            tok["added_tokens"].append(dict(id=end, content=word, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False))
            ids.append(end)
            end += 1
    return tok, ids


def bf16(rows):
    return (np.ascontiguousarray(rows, np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()


def make(to):
    """Writes the checkpoint. Input and output rows of the script's tokens are unit vectors, one step apart."""
    shutil.copytree(REFERENCE / "nano-glm45v", to)
    shutil.copy(ROOT / "runtime" / "chat" / "testdata" / "glm45v.jinja", to / "chat_template.jinja")
    tok, ids = tokens()
    (to / "tokenizer.json").chmod(0o644)
    (to / "tokenizer.json").write_text(json.dumps(tok))
    for path in to.glob("*.safetensors"):
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        size = int.from_bytes(data[:8], "little")
        for name, t in json.loads(data[8:8 + size]).items():
            if name == "__metadata__" or ".visual." in name:
                continue
            a, b = (8 + size + x for x in t["data_offsets"])
            if name.endswith(("o_proj.weight", "down_proj.weight", "o_proj.bias")):
                data[a:b] = bytes(b - a)
            if name.endswith(("embed_tokens.weight", "lm_head.weight")):
                rows = np.zeros(t["shape"], np.float32)
                out = name.endswith("lm_head.weight")
                for k, i in enumerate(ids[1:] if out else ids):
                    rows[i, k] = 30
                data[a:b] = bf16(rows)
            if name.endswith("language_model.norm.weight"):
                data[a:b] = bf16(np.ones(t["shape"]))
        path.write_bytes(data)
    return to
