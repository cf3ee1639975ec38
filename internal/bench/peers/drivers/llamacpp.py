"""llama.cpp on request: llamacpp.py FILE.gguf THREADS EXTRA

Reads {"prompt": T} (evaluates T tokens in an empty context) or {"decode": T} (T tokens one by one after what is there), a line each, and answers
{"seconds": ...}. EXTRA 0 takes its extra buffer types away (AMX, repacked weights). The first line has the bytes of weights that a token reads:
every matrix but the embedding, experts by the share that is chosen.
"""
import json
import os
import sys
import time

path, threads, extra = sys.argv[1], int(sys.argv[2]), sys.argv[3] != "0"
import llama_cpp  # noqa: E402
sys.path.insert(0, os.environ["GGUF_PY"])
import gguf  # noqa: E402

reader = gguf.GGUFReader(path)
field = {k.split(".", 1)[1]: v for k, v in reader.fields.items() if "." in k}
share = int(field["expert_used_count"].parts[-1][0]) / int(field["expert_count"].parts[-1][0])
active = sum(t.n_bytes * (share if "_exps" in t.name else 1) for t in reader.tensors if len(t.shape) > 1 and t.name != "token_embd.weight")
vocab = int(field["vocab_size"].parts[-1][0])
if not extra:
    defaults = llama_cpp.llama_model_default_params

    def without():
        p = defaults()
        p.use_extra_bufts = False
        return p

    llama_cpp.llama_model_default_params = without
    llama_cpp.llama_cpp.llama_model_default_params = without
model = llama_cpp.Llama(model_path=path, n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads, logits_all=False, verbose=True)
if model.model_params.use_extra_bufts != extra:
    sys.exit("Error: the extra buffer types cannot be switched off")
ids = [(i * 7919) % (vocab - 3) + 3 for i in range(1024)]


def empty():
    model.reset()
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(model._ctx.ctx), True)


empty()
model.eval(ids[:8])
print(json.dumps({"version": llama_cpp.__version__, "active": active}), flush=True)
for line in sys.stdin:
    r = json.loads(line)
    try:
        if "prompt" in r:
            empty()
            start = time.perf_counter()
            model.eval(ids[:r["prompt"]])
        else:
            start = time.perf_counter()
            for i in range(r["decode"]):
                model.eval([ids[i]])
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    except Exception as e:
        print(json.dumps({"error": f"{type(e).__name__}: {e}"}), flush=True)
