"""Records what Python's re and fnmatch answer: quant/declaration/testdata/patterns.json, which its tests compare with.

    python3.11 interop/record_patterns.py > quant/declaration/testdata/patterns.json

Patterns are those of published configurations, corners of the syntax, and random ones of a grammar (seeded).
"""
import fnmatch
import json
import random
import re
import warnings

warnings.simplefilter("ignore")

NAMES = [
    "", "lm_head", "model.embed_tokens", "model.norm", "model.layers.0.mlp.gate_proj", "model.layers.1.mlp.gate", "model.layers.10.mlp.gate",
    "model.layers.3.mlp.experts.12.down_proj", "model.layers.46.shared_head.head", "model.layers.46.eh_proj", "model.layers.2.self_attn.q_proj",
    "model.layers.2.self_attn.kv_a_proj_with_mqa", "model.layers.2.self_attn.indexer.wk", "model.layers.2.self_attn.indexer.weights_proj",
    "model.decoder.mlp.experts", "visual.blocks.0.attn.qkv_proj", "model.visual.blocks.11.mlp.up_proj", "model.language_model.layers.5.mlp.shared_experts.up_proj",
    "model.layers.1", "aab", "abab", "aaaa", "ab", "a b", "A-B", "x{2}", "[x]", "a\n", "a\nb", "é", "model.layers.٣.mlp", "a^b", "\x1c", "_0", "ba", "caab",
]
HAND = [
    r".*", r".*lm_head$", r"lm_head", r"", r".*embed_tokens$", r".*mlp\.gate$", r".*eh_proj$", r".*shared_head\.head$", r".*norm$",
    r".*layers\.0\.mlp\..*", r".*layers\.46\..*", r"model\.decoder\..*", r".*visual\..*", r".*indexer\.(wk|weights_proj|k_norm|wk_weights_proj)$",
    r".*self_attn\.(?!indexer\.)[a-z_]+$", r".*mlp\.experts\.\d+\.(gate|up|down)_proj$", r".*self_attn\.(q|k|v|o)_proj$",
    r".*layers\.(1?\d)\.mlp\.(gate_up|gate|up|down)_proj$", r".*layers\.\d+\.mlp\.experts\.(?:[0-9]|1[0-5])\.", r"(?i)LM_HEAD", r"(?i:MODEL)\.norm",
    r"(?:model\.)?(?:language_model\.)?layers\.\d+", r"(a)(b)?\1", r"(?P<x>a)(?P=x)b", r"(?P<x>a)|b(?(x)a|a)", r"(a)?(?(1)b|c)", r"a++b", r"(?>a*)ab", r"a*+a",
    r"(?<=a)b", r"a(?<=a)b", r"(?<!a)b", r"(?<=a|bc)b", r"(?<=a|b)b", r"a{2}", r"a{2,}", r"a{,2}b", r"a{,}b", r"x{2}", r"x\{2\}", r"x{2,1}", r"a{", r"a{}", r"{", r"a{2}{3}",
    r"a**", r"a*?b", r"a+?", r"a??b", r"*a", r"+", r"?", r"^*", r"^a", r"a$", r"a$\n", r"a\Z", r"\Aa", r"a\z", r"\ba\b", r"\Bb", r"[]a]+", r"[^]a]", r"[a", r"[a-", r"[z-a]",
    r"[\d-z]", r"[a-\d]", r"[\w.]+$", r"[^\W\d]", r"[[x]", r"[\]x]", r"[a-b&&b]", r"[\b]", r"[a\-z]", r"[-a]", r"[a-]", r"(", r")", r"(a", r"a)", r"()", r"(|a)", r"a||b", r"(?:)", r"(?",
    r"(?x) a b # c", r"(?s)a.b", r"a.b", r"(?m)a$", r"(?ms)^a$.b", r"a(?i)b", r"(?i-s:A)", r"(?-i:a)", r"(?a)\d", r"(?#c)a", r"(?#c", r"(?P<1>a)", r"(?P<a>x)(?P<a>y)", r"(?P=a)", r"(?<n>a)", r"(?'n'a)",
    r"\1", r"(\1)", r"(a)\2", r"\01", r"\101", r"\x61", r"\x6", r"\u0061", r"\U00000061", r"\U00110000", r"\p{L}", r"\Q", r"\e", r"\h", r"\K", r"\_0", r"\-", r"\.", r"\\", "\\", r"\t", r"\s", r"\S+", r"\w+\Z", r"\d",
    r"(?=a)ab", r"(?=a)*a", r"(?!a).", r"(?:a|ab)(?:c|b)?$", r"(a|b)*ab", r"(?:a*)*$", r"a|b|", r".{3}", r".{40,}", r"(?:.{100}){100}", r"[a-c]{1,2}?b", r"[\s\S]*", r"[é]", r"é", r"model.layers.1", r"\Gfoo", r"\cA",
    r"(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)\10", r"((a)b)\2", r"(?(1)a)", r"(a)(?(2)b)", r"(a)(?(1)b|c|d)", r"a(?:b", r"(?P<é>a)", r"(?L)a", r"(?u)a", r"(?iu)A",
    r"(?:a+)+$", r"re:a", r"\N{DIGIT ONE}", r"a{1001}", r"a{0}", r"(?:a{3}){2}", r"[\^a]", r"[^^]", r"[a^]", r"[.]", r"[$]", r"\$", r"[\\]", r"[/]", r"a/b", r"~", r"[~a]", r"[a--b]", r"[a||b]", r"[^\Wx\d]", r"[\W\d]+", r"[^\S\D]", r"[\Sx]", r"[^\W]é?",
]
ATOMS = ["a", "b", ".", r"\.", "model", "layers", r"\d", r"\w", "[ab]", "[^a]", "[a-z_]", r"[0-9]", "(?:a|b)", "(a)", "(ab|a)", "x", "^", "$", r"\b", "(?=a)", "(?!b)", "_", "gate", r"\1", "(?:a*b)"]
MARKS = ["", "", "", "*", "+", "?", "*?", "+?", "??", "{2}", "{1,}", "{0,2}", "*+", "{,1}"]
GLOBS = ["*", "model.layers.0*", "model.layers.1.*", "*.mlp.*", "lm_head", "model.layers.?.mlp.gate", "model.layers.[12].mlp*", "model.layers.[!12].*", "[", "[]x]*", "a[", "[x]", "[[]x]", "*layers*gate*",
         "model.layers.1", "mlp", "[z-a]*", "[!z-a]*", "a?b", "A-[A-Z]", "x{2}", "é", "?"]


def answers(matches):
    return [i for i, n in enumerate(NAMES) if matches(n)]


def regexp(p):
    try:
        e = re.compile(p)
    except Exception:
        return {"pattern": p, "error": True}
    return {"pattern": p, "match": answers(lambda n: e.match(n) is not None), "search": answers(lambda n: e.search(n) is not None)}


def main():
    rnd = random.Random(20261129)
    patterns = list(HAND)
    while len(patterns) < len(HAND) + 300:
        p = "".join(rnd.choice(ATOMS) + rnd.choice(MARKS) for _ in range(rnd.randint(1, 5)))
        if rnd.random() < 0.3:
            p += "|" + rnd.choice(ATOMS)
        if p not in patterns:
            patterns.append(p)
    rows = [regexp(p) for p in patterns]
    globs = [{"pattern": g, "match": answers(lambda n: fnmatch.fnmatchcase(n, g))} for g in GLOBS]
    lines = ",\n".join("  " + json.dumps(r, ensure_ascii=True) for r in rows)
    print('{\n "names": %s,\n "regexps": [\n%s\n ],\n "globs": [\n%s\n ]\n}' % (
        json.dumps(NAMES), lines, ",\n".join("  " + json.dumps(g) for g in globs)))


if __name__ == "__main__":
    main()
