"""tokenizers against our tokenizer on a fuzzed sample."""
import json
import random
import subprocess
import unicodedata

import pytest
from tokenizers import Tokenizer

import checkpoints as ck

PEER = "tokenizers"
SAMPLE = 20000
WORDS = ("the it's we'll I'VE don't DON'T 's 'Re naïve Straße don`t glm.MoE x86_64 3.14159 1234567 0x7f 你好 世界，今天 日本語テキスト 한국어 Привет мир "
         "שלום العربية हिन्दी ไทย 👍🏽 👩‍👩‍👧 🇩🇪 e\u0301 \u00a0 \u3000 \u200b \u2028 \ufeff … — “x” ½ Ⅷ ٣٤ ǅ ﬁ \ud7ff \ue000 \U000e0041").split(" ")
SPACE = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\n  ", "\u00a0", "\u3000", "\x0b", "\x85", "\u2028", "\x1c", ""]
CODE = ["def f(x):\n    return x[0]\n", "{\"a\": [1, 2.5e-3]}", "for (int i=0;i<n;++i) {}", "<a href='x'>", "$$\\alpha^2$$", "C:\\dir\\f.txt", "//\n\t//"]


def strings(added, seed):
    rng = random.Random(seed)
    assigned = [chr(c) for c in range(0x30000) if unicodedata.category(chr(c)) not in ("Cs", "Cn", "Co")]
    for _ in range(SAMPLE):
        kind, parts = rng.randrange(6), []
        for _ in range(rng.randrange(1, 14)):
            if kind == 0:
                parts.append(rng.choice(WORDS) + rng.choice(SPACE))
            elif kind == 1:
                parts.append(rng.choice(assigned))
            elif kind == 2:
                parts.append(rng.choice(WORDS + CODE + added) + rng.choice(SPACE))
            elif kind == 3:
                parts.append("".join(rng.choice("abcdeghimnorstuy'  \n0123456789.,;:!?-_()") for _ in range(rng.randrange(12))))
            elif kind == 4:
                parts.append(rng.choice(SPACE) * rng.randrange(4) + rng.choice(added)[:rng.randrange(1, 9)])
            else:
                parts.append(chr(rng.choice([rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0xd800), rng.randrange(0xe000, 0x110000)])))
        yield "".join(parts)


@pytest.mark.parametrize("model", ck.MODELS)
def test_encode_and_decode(model, note):
    """20,000 fuzzed strings (words of many scripts, random Unicode, white space, code, added tokens whole and cut): same ids with and without added tokens, same decoded text"""
    tok = Tokenizer.from_file(str(ck.source(model) / "tokenizer.json"))
    added = [t.content for t in tok.get_added_tokens_decoder().values()]
    sample = list(strings(added, 7))
    feed = "\n".join(json.dumps(s) for s in sample)
    out = subprocess.run([ck.DUMP, "-tokenize", ck.source(model)], input=feed, capture_output=True, text=True, check=True).stdout
    ours = [json.loads(line) for line in out.split("\n") if line]
    assert len(ours) == len(sample)
    for s, o, e in zip(sample, ours, tok.encode_batch(sample, add_special_tokens=False)):
        assert o["ids"] == e.ids, repr(s)
        assert o["text"] == tok.decode(e.ids, skip_special_tokens=False), repr(s)
    plain = Tokenizer.from_str(json.dumps({**json.loads(tok.to_str()), "added_tokens": []}))
    for s, o, e in zip(sample, ours, plain.encode_batch(sample, add_special_tokens=False)):
        assert o["ordinary"] == e.ids, repr(s)
