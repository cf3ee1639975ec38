"""Follows tensors without data through an engine's own loader into its parameters. Import after torch may be imported."""
import os

import torch
from safetensors import safe_open
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I8": torch.int8, "I32": torch.int32, "I64": torch.int64, "U8": torch.uint8,
          "F8_E4M3": torch.float8_e4m3fn}

CODES = {torch.int8, torch.int32, torch.float8_e4m3fn, torch.uint8}


def storage(t):
    return t.untyped_storage()._cdata


class Trace(TorchDispatchMode):
    """Follows stored tensors through the loader's views, casts and concatenations into parameters."""

    def __init__(self, params):
        super().__init__()
        self.to = {storage(p): n for n, p in params.items()}
        self.of, self.keep, self.used = {}, [], set()
        self.written = {n: 0 for n in params}
        self.dtypes = {n: set() for n in params}

    def source(self, name, t):
        self.of[storage(t)] = ({name}, {t.dtype})
        self.keep.append(t)
        return t

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.copy_.default and storage(args[0]) in self.to:
            name = self.to[storage(args[0])]
            self.written[name] += args[0].numel()
            if storage(args[1]) in self.of:
                names, stored = self.of[storage(args[1])]
                self.used |= names
                codes = stored & CODES and not any("scale" in n for n in names) and args[0].dtype.is_floating_point and args[0].dtype.itemsize > 1
                self.dtypes[name].add("codes without a scale" if codes and "weight_shape" not in name else str(args[1].dtype))
            return out
        at = [storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        known = [self.of[a] for a in at if a in self.of]
        if known:
            label = (set().union(*(k[0] for k in known)), set().union(*(k[1] for k in known)))
            for t in tree_leaves(out):
                if isinstance(t, torch.Tensor) and storage(t) not in self.to and storage(t) not in self.of:
                    self.of[storage(t)] = label
                    self.keep.append(t)
        return out


def tensors(d, trace, used, left_out=lambda name: False):
    """Every stored tensor without data, but for those that others stand for."""
    for f in sorted(os.listdir(d)):
        if not f.endswith(".safetensors"):
            continue
        with safe_open(os.path.join(d, f), framework="pt") as st:
            parts = [(k, st.get_slice(k)) for k in st.keys() if not left_out(k)]
            with _disable_current_modes():  # a quarter of the time of a large model otherwise
                made = [(k, torch.empty(s.get_shape(), dtype=DTYPES[s.get_dtype()], device="meta")) for k, s in parts]
        for k, t in made:
            used.append(k)
            yield k, trace.source(k, t)
