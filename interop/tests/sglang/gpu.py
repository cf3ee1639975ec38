"""Stands in for the machine that SGLang and vLLM expect, so that their Python runs where there is none.

What they import and this environment does not have (kernels, servers, tracing) becomes a module whose names do nothing; `missing` lists
them. torch says that there is one H100. No kernel is run and no weight is computed: only names, rules and shapes are.
"""
import importlib.abc
import importlib.machinery
import os
import sys
import types

import torch
from torch.overrides import TorchFunctionMode

missing = []
# probed by other packages, which take an empty module for the real one
OWN = {"sglang"}  # packages under test: their own files are used as they are; what they import and is not installed is replaced by empty modules
GUARDED = {"libtpu", "torchcodec", "flash_attn", "torchvision", "librosa"}


class Meta(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = Meta(name, (Nothing,), {})
        setattr(cls, name, made)
        return made

    def __or__(cls, other):
        return cls

    __ror__ = __or__


class Nothing(metaclass=Meta):
    """Base class, decorator, constant or function, as the importer likes."""

    def __new__(cls, *a, **k):
        return a[0] if len(a) == 1 and callable(a[0]) and not k else object.__new__(cls)

    def __init__(self, *a, **k):
        pass

    def __init_subclass__(cls, **k):
        pass

    def __call__(self, *a, **k):
        return a[0] if len(a) == 1 and callable(a[0]) else Nothing()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __class_getitem__(cls, key):
        return cls

    @classmethod
    def __get_pydantic_core_schema__(cls, *a):
        from pydantic_core import core_schema
        return core_schema.any_schema()


class Absent(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = Meta(name, (Nothing,), {})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Last in line: reached only for what nobody else finds."""

    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in GUARDED or top in OWN:
            return None
        f = sys._getframe(1)
        while f and "importlib" in f.f_code.co_filename:
            f = f.f_back
        if top not in missing and not (f and any(f"{os.sep}{own}{os.sep}" in f.f_code.co_filename for own in OWN)):
            return None
        missing.append(name)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Absent(spec.name)

    def exec_module(self, module):
        pass


class OnMeta(TorchFunctionMode):
    """The device that the engine names (rotary tables of glm4_moe_lite are made there) is the meta device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def meta(x):
            name = x.type if isinstance(x, torch.device) else x if isinstance(x, str) else ""
            return torch.device("meta") if name.split(":")[0] in ("cuda", "npu") else x

        kwargs = {k: meta(v) if k == "device" else v for k, v in (kwargs or {}).items()}
        if func in (torch.Tensor.to, torch.Tensor.cuda):
            args = tuple(map(meta, args))
        return args[0].to("meta") if func is torch.Tensor.cuda else func(*args, **kwargs)


class H100:
    name, major, minor, multi_processor_count, total_memory = "NVIDIA H100 80GB HBM3", 9, 0, 132, 80 << 30


def pretend(device, capability=(9, 0)):
    """Call before the first import of sglang or vllm. device: cuda (one H100, or a GPU of another capability) or npu (one Ascend NPU)."""
    H100.major, H100.minor = capability
    sys.meta_path.append(Finder())
    deep_gemm = sys.modules["deep_gemm"] = Absent("deep_gemm")
    deep_gemm.get_num_sms = lambda: H100.multi_processor_count  # read by the sparse-attention indexer
    missing.append("deep_gemm")
    stream = type("Stream", (), {"__init__": lambda self, *a, **k: None})
    cuda = dict(is_available=lambda: True, device_count=lambda: 1, current_device=lambda: 0, get_device_capability=lambda *a, **k: capability,
                get_device_name=lambda *a, **k: H100.name, get_device_properties=lambda *a, **k: H100, Stream=stream, Event=stream)
    if device == "cuda":
        for k, v in cuda.items():
            setattr(torch.cuda, k, v)
        return
    torch.npu = Absent("torch.npu")
    vars(torch.npu).update(cuda, get_device_name=lambda *a, **k: "Ascend910B")
    torch.ops.npu = Absent("torch.ops.npu")
