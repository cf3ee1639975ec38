"""Runs llama.cpp's own convert_hf_to_gguf.py in a process of its own: convert.py LLAMACPP_DIR MODEL_DIR OUT.gguf f32|bf16|q8_0

LLAMACPP_DIR holds convert_hf_to_gguf.py, conversion/ and gguf-py/. The converter knows published tokenizers by a hash and refuses others: the
pre-tokenizer is named here (glm4). A model without the tokens it asks for ("[gMASK]", ...) gets no vocabulary; ids need none.
"""
import json
import os
import runpy
import sys

root, model, out, kind = sys.argv[1:5]
sys.path[:0] = [root, os.path.join(root, "gguf-py")]
import conversion.base as base  # noqa: E402
import conversion.glm as glm  # noqa: E402

base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "glm4"
with open(os.path.join(model, "tokenizer.json")) as f:
    added = {t["content"] for t in json.load(f)["added_tokens"]}
if "[gMASK]" not in added:
    for c in vars(glm).values():
        if isinstance(c, type) and issubclass(c, base.TextModel):
            c.set_vocab = lambda self: (self._set_vocab_none(), self.gguf_writer.add_vocab_size(self.hparams["vocab_size"]))
sys.argv = ["convert_hf_to_gguf.py", model, "--outfile", out, "--outtype", kind]
runpy.run_path(os.path.join(root, "convert_hf_to_gguf.py"), run_name="__main__")
