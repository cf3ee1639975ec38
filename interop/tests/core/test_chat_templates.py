"""jinja2, set up by transformers, against our template engine on fuzzed conversations and templates."""
import json
import os
import pathlib
import random
import subprocess

import pytest
import transformers
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import _compile_jinja_template

import checkpoints as ck

PEER = ("jinja2", "transformers")
transformers.logging.set_verbosity_error()
CHAT = ck.ROOT / "runtime" / "chat"
# INTEROP_TEMPLATES names a folder with further chat templates, such as those of published models.
TEMPLATES = sorted((CHAT / "testdata").glob("*.jinja")) + sorted(pathlib.Path(p) for p in pathlib.Path(os.environ.get("INTEROP_TEMPLATES", "/nowhere")).glob("*.jinja"))
CONVERSATIONS = 1500
PIECES = ["Hello", "  pad ", "\n", "\n\n", "你好", "é", "👍🏽", "<b>&\"'</b>", "</think>", "<think>", "<think>\nwhy\n</think>\n\n", "/nothink", "<|user|>",
          "[gMASK]", "{{ x }}", "{% if %}", "\u3000", "\u00a0", "\x1c", "\x85", "", "\t", "\\n", "%s", "{0}", "'q'", "</tool_response>", "<|image|>"]


def text(r):
    return "".join(r.choice(PIECES) for _ in range(r.randrange(5)))


def value(r, depth=0):
    kind = r.randrange(11 if depth < 3 else 8)
    if kind == 1:
        return r.choice([0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, 10**20])
    if kind == 2:
        return r.choice([0.0, 1.0, -2.5, 1e-7, 1e22, 0.1, 1e16, 123456789.125, 5e-324])
    if kind == 3:
        return r.choice([True, False])
    if kind == 4:
        return None
    if kind == 8:
        return [value(r, depth + 1) for _ in range(r.randrange(4))]
    if kind > 8:
        keys = ["zeta", "a", "k é", "q\"", "m", "type", "name", "items", "keys", "strict", "get"]
        return {r.choice(keys): value(r, depth + 1) for _ in range(r.randrange(4))}
    return text(r)


def content(r, media):
    kind = r.randrange(10)
    if kind < 6:
        return text(r)
    if kind == 9:
        return None
    parts = [{"type": "text", "text": text(r)}, text(r)]
    if media:
        parts += [{"type": "image"}, {"type": "image", "image": text(r)}, {"type": "video", "video": "v"}, {"type": "image_url", "image_url": {"url": text(r)}},
                  {"type": "input_audio"}]
    return [r.choice(parts) for _ in range(r.randrange(4))]


def tool(r):
    f = {"name": r.choice(["f", "get_weather", "ütf"]), "description": text(r), "parameters": value(r, 1)}
    if r.random() < 0.3:
        f["strict"] = True
    if r.random() < 0.3:
        f["defer_loading"] = r.random() < 0.5
    return f if r.random() < 0.3 else {"type": "function", "function": f}


def call(r):
    f = {"name": r.choice(["f", "g"]), "arguments": {r.choice(["s", "n", "k é", "x y", "items"]): value(r) for _ in range(r.randrange(4))}}
    c = f if r.random() < 0.3 else {"type": "function", "function": f}
    return {**c, "id": r.choice("abc")} if r.random() < 0.5 else c


def result(r, media):
    c = r.choice([text(r)] * 4 + [[{"output": text(r)} for _ in range(r.randrange(3))], [{"type": "tool_reference", "name": "f"}], content(r, media), [value(r)]])
    m = {"role": "tool", "content": c}
    return {**m, "tool_call_id": r.choice("abc")} if r.random() < 0.7 else m


def conversation(r):
    media, messages = r.random() < 0.5, []
    if r.random() < 0.5:
        messages.append({"role": "system", "content": content(r, False)})
    for _ in range(r.randrange(5)):
        kind = r.randrange(4)
        if kind == 1:
            m = {"role": "assistant", "content": content(r, False)}
            if r.random() < 0.1:
                del m["content"]
            if r.random() < 0.4:
                m["reasoning_content"] = r.choice([text(r), text(r), "", None])
            if r.random() < 0.5:
                m["tool_calls"] = [call(r) for _ in range(r.randrange(3))]
            messages.append(m)
        elif kind == 2:
            messages += [result(r, media) for _ in range(r.randrange(1, 4))]
        else:
            messages.append({"role": "user", "content": content(r, media)})
    out = {"messages": messages}
    if r.random() < 0.5:
        out["tools"] = [tool(r) for _ in range(r.randrange(1, 4))]
    for key, choices in dict(enable_thinking=[True, False], clear_thinking=[True, False], reasoning_effort=["high", "max", "low", None], add_generation_prompt=[True, False]).items():
        if r.random() < 0.3:
            out[key] = r.choice(choices)
    return out


def theirs(template, c):
    """The prompt, or None where Jinja2 refuses."""
    variables = {"tools": None, "documents": None, "add_generation_prompt": True, **c}
    try:
        return template.render(**variables)
    except Exception:  # noqa: BLE001 whatever it is, the prompt is refused
        return None


def ours(path, conversations, *extra):
    feed = "".join(json.dumps(c, ensure_ascii=False) + "\n" for c in conversations)
    out = subprocess.run([ck.DUMP, *extra, "-chat", path], input=feed, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.split("\n") if line]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_fuzzed_conversations(path, note):
    """1,500 fuzzed conversations (tools, tool calls, results, reasoning, media, odd Unicode, None, numbers) through each family's template: the same prompt to the byte, the same refusals"""
    template = _compile_jinja_template(path.read_text())
    r = random.Random(11)
    conversations = [conversation(r) for _ in range(CONVERSATIONS)]
    refused = 0
    for c, got in zip(conversations, ours(path, conversations), strict=True):
        want = theirs(template, c)
        refused += want is None
        assert got.get("text") == want, json.dumps(c, ensure_ascii=False) + "\n" + got.get("error", "")
    assert refused < CONVERSATIONS / 4
    note(f"{path.stem}: {CONVERSATIONS - refused} equal, {refused} refused by both")


@pytest.mark.parametrize("model", ["nano-glm5", "nano-glm45v"])
def test_ids(model):
    """token ids of fuzzed conversations without markers in their texts: those of apply_chat_template"""
    tok = PreTrainedTokenizerFast.from_pretrained(ck.source(model))
    path = CHAT / "testdata" / ("glm45v.jinja" if model == "nano-glm45v" else "glm5.jinja")
    added = [t for t in tok.get_added_vocab()]
    r = random.Random(12)
    conversations = [c for c in (conversation(r) for _ in range(3000)) if c["messages"] and not any(a in json.dumps(c, ensure_ascii=False) for a in added)]
    checked = 0
    for c, got in zip(conversations, ours(path, conversations, "-tokenizer", ck.source(model)), strict=True):
        kw = {k: v for k, v in c.items() if k not in ("messages", "tools", "add_generation_prompt")}
        try:
            want = tok.apply_chat_template(c["messages"], tools=c.get("tools"), chat_template=path.read_text(), tokenize=True, return_dict=False,
                                           add_generation_prompt=c.get("add_generation_prompt", True), **kw)
        except Exception:  # noqa: BLE001 refused
            assert "error" in got
            continue
        assert got["ids"] == want, json.dumps(c, ensure_ascii=False)
        checked += 1
    assert checked > 300


NAMES = ["n", "t", "f", "i", "x", "e", "s", "u", "l", "ls", "d", "messages", "nowhere", "sp"]


def expression(r, depth=0):
    """A random expression of the kinds that templates use, not always a valid one."""
    if depth > 3 or r.random() < 0.25:
        return r.choice([r.choice(NAMES), r.choice(NAMES), "'a'", "'Hello'", "''", "1", "-2", "0", "2.5", "none", "true", "[]", "[1, 'a']", "{'k': 1}"])
    def sub():
        return expression(r, depth + 1)
    return r.choice([
        lambda: f"({sub()})", lambda: f"{sub()} {r.choice(['+', '-', '*', '~', '//', '%', '/'])} {sub()}",
        lambda: f"{sub()} {r.choice(['==', '!=', '<', '>=', 'in', 'not in'])} {sub()}", lambda: f"{sub()} {r.choice(['and', 'or'])} {sub()}",
        lambda: f"not {sub()}", lambda: f"{sub()} if {sub()} else {sub()}", lambda: f"({sub()} if {sub()} else {sub()}) | {r.choice(['upper', 'tojson', 'length', 'string'])}",
        lambda: f"({sub()})[{r.choice(['0', '-1', '1:', ':-1', '::-1', '9', repr('k'), repr('role')])}]",
        lambda: f"({sub()}).{r.choice(['role', 'k', 'strip()', 'split()', 'upper()', 'items() | list', 'get(1)', '0', 'content', 'title()'])}",
        lambda: f"({sub()}).{r.choice(['split', 'startswith', 'strip', 'endswith', 'find', 'replace', 'join', 'count'])}({sub()}{', ' + sub() if r.random() < 0.3 else ''})",
        lambda: f"{sub()} | {r.choice(['first', 'last', 'length', 'trim', 'tojson', 'string', 'list', 'upper', 'int', 'float', 'sort', 'reverse | list', 'join', 'sum', 'default(1)', 'capitalize', 'unique | list', 'abs', 'title', 'items | list', 'min', 'max'])}",
        lambda: f"({sub()}) is {r.choice(['', 'not '])}{r.choice(['defined', 'none', 'string', 'mapping', 'iterable', 'sequence', 'number', 'boolean', 'integer', 'true', 'eq 1', 'in [1]'])}",
        lambda: f"[{sub()}, {sub()}]", lambda: f"({sub()}, {sub()})", lambda: f"{{'a': {sub()}, {sub()}: 2}}",
    ])()


def statement(r, depth=0):
    if depth > 2:
        return "." + r.choice(["{{ ns.a }}", "{{ q }}", "{{ loop.index }}", "\n", "  ", "tail"])
    dash = [r.choice(["", "", "-", "+"]) for _ in range(4)]
    tags = [("{%" + (dash[i]), (dash[i + 1] if dash[i + 1] != "+" else "") + "%}") for i in (0, 2)]
    o, c = tags[0]
    o2, c2 = tags[1]
    def body():
        return "".join(statement(r, depth + 1) for _ in range(r.randrange(1, 3)))
    e = expression(r, 2)
    return r.choice([
        lambda: r.choice(["\n", " \n", "  ", "word ", "\n  "]), lambda: "{{" + r.choice(["", "-"]) + " " + e + " " + r.choice(["", "-"]) + "}}",
        lambda: f"{o} if {e} {c}{body()}{o2} else {c2}{body()}{o} endif {c}", lambda: f"{o} for q in {e} {c}{body()}{o2} endfor {c2}",
        lambda: f"{o} for q in l if {e} {c}{body()}{o2} else {c2}none{o} endfor {c}", lambda: f"{o} set q = {e} {c}", lambda: f"{o} set ns.a = {e} {c}",
        lambda: f"{o} set q {c}{body()}{o2} endset {c2}", lambda: f"{{%- macro mac(q, p={e}) -%}}{body()}{{%- endmacro %}}{{{{ mac({e}) }}}}",
        lambda: f"{{#{dash[0]} note {dash[1] if dash[1] != '+' else ''}#}}", lambda: f"{o} for k, v in d.items() {c}{{{{ k }}}}{o2} if loop.last {c2}{{% break %}}{o} endif {c}{o2} endfor {c2}",
    ])()


def test_fuzzed_templates(note, tmp_path):
    """6,000 fuzzed templates (expressions, tests, filters, methods, loops, macros, white space control): the same text wherever Jinja2 renders"""
    variables = json.loads((CHAT / "jinja" / "testdata" / "variables.json").read_text())
    r, same, refused, alone = random.Random(13), 0, 0, 0
    sources = ["{{ " + expression(r) + " }}" for _ in range(4000)]
    sources += ["{% set ns = namespace(a=0) %}" + "".join(statement(r) for _ in range(r.randrange(1, 5))) for _ in range(2000)]
    feed = "".join(json.dumps({"template": s, "variables": variables}) + "\n" for s in sources)
    out = subprocess.run([ck.DUMP, "-chat", "-"], input=feed, capture_output=True, text=True, check=True).stdout
    for s, line in zip(sources, out.rstrip("\n").split("\n"), strict=True):
        try:
            want = _compile_jinja_template(s).render(**variables)
        except Exception:  # noqa: BLE001 refused
            want = None
        got = json.loads(line).get("text")
        if want is None and got is not None:
            alone += 1  # what its compiler folds, or a test before "if", fails before it is needed
            continue
        if want is not None and ("<generator object" in want or "0x" in want or "<built-in" in want or "<bound" in want or "<Macro" in want):
            continue  # what only Python can print
        same, refused = same + (want is not None), refused + (want is None)
        assert got == want, s + "\n" + line
    assert same > 2000 and alone < len(sources) / 20
    note(f"{same} equal, {refused} refused by both, {alone} by Jinja2 alone (what it computes before rendering)")
