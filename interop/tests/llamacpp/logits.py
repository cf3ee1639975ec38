"""Runs in a process of its own (llama.cpp ends the process where it does not go on): logits.py FILE.gguf IDS.json OUT.safetensors

Writes F32 logits.<i> [T, V] of every sequence of IDS.json, computed in float32: KV cache in float32, no flash attention, weights as stored.
Prints {"seconds": ...}.
"""
import json
import sys
import time

import llama_cpp
import numpy as np
from safetensors.numpy import save_file

path, ids, out = sys.argv[1:4]
F32 = 0
model = llama_cpp.Llama(model_path=path, n_ctx=1024, n_batch=1024, n_ubatch=1024, n_threads=2, n_threads_batch=2, logits_all=True,
                        flash_attn=False, type_k=F32, type_v=F32, verbose=True)
start, tensors = time.time(), {}
for i, seq in enumerate(json.load(open(ids))):
    model.reset()
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(model._ctx.ctx), True)
    model.eval(seq)
    tensors[f"logits.{i}"] = np.array(model.scores[:len(seq)], np.float32)
save_file(tensors, out)
print(json.dumps(dict(seconds=time.time() - start)))
