"""Runs in a process of its own: loads a directory with vLLM's CPU engine and prints one JSON object.

  load.py DIR PROMPTS.json MAX_TOKENS MTP

Loads strictly (enable_weights_track). INT8 expert kernels of the CPU build refuse sigmoid routing with a bias although they get finished
top-k ids and weights from outside; that gate is lifted, "any_routing" says so.
"""
import json
import os
import sys
import traceback

os.environ.update(VLLM_LOGGING_LEVEL="ERROR", VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", HF_HUB_OFFLINE="1")
real = os.dup(1)
os.dup2(2, 1)
folder, prompts, max_tokens, mtp = sys.argv[1], json.load(open(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])


def main():
    from vllm import LLM, SamplingParams
    from vllm.model_executor.layers.fused_moe.experts import cpu_int4_moe, cpu_moe
    for m in (cpu_moe, cpu_int4_moe):
        for c in vars(m).values():
            if isinstance(c, type) and "_supports_routing_method" in vars(c):
                c._supports_routing_method = staticmethod(lambda *x, **k: True)
    more = {"speculative_config": {"method": "mtp", "num_speculative_tokens": mtp}} if mtp else {}
    llm = LLM(model=folder, dtype="bfloat16", max_model_len=512, enforce_eager=True, skip_tokenizer_init=True, seed=0,
              disable_log_stats=False, model_loader_extra_config={"enable_weights_track": True}, **more)
    sp = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True, detokenize=False, logprobs=1, prompt_logprobs=None if mtp else 1)
    out = []
    for p, r in zip(prompts, llm.generate([{"prompt_token_ids": p} for p in prompts], sp, use_tqdm=False)):
        lp = [x[t].logprob for x, t in zip(r.prompt_logprobs[1:], p[1:])] if r.prompt_logprobs else None
        out.append(dict(tokens=list(r.outputs[0].token_ids), prompt_logprobs=lp))
    spec = {}
    for x in llm.get_metrics():
        if "spec_decode" in x.name:
            spec[x.name] = getattr(x, "value", None) if hasattr(x, "value") else getattr(x, "values", None)
    return dict(outputs=out, spec=spec, any_routing=True)


try:
    result = main()
except BaseException as e:  # noqa: BLE001 the engine's own message is the result
    causes = [line for line in traceback.format_exc().splitlines() if "Error" in line]
    result = dict(error=f"{type(e).__name__}: {str(e).splitlines()[0][:300]}" if str(e) else repr(e), trace=causes[-4:])
os.write(real, json.dumps(result).encode())
os._exit(0)
