"""llm-compressor's model_free_ptq on the CPU: model_free_ptq.py SRC DST SCHEME OURS

OURS is a result of glmconv, whose ignore list is taken: the same modules are quantised. Version 0.14 hands safetensors a strided slice when a block is
partly filled ("You are trying to save a non contiguous tensor"); the copy it lacks is made here.
"""
import json
import os
import sys

import llmcompressor.entrypoints.model_free as model_free

src, dst, scheme, ours = sys.argv[1:5]
ignore = json.load(open(os.path.join(ours, "config.json")))["quantization_config"]["ignore"]
save = model_free.save_file
model_free.save_file = lambda t, *a, **k: save({n: x.contiguous() for n, x in t.items()}, *a, **k)
model_free.model_free_ptq(model_stub=src, save_directory=dst, scheme=scheme, ignore=ignore, max_workers=1, device="cpu")
