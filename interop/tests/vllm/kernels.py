"""Products that vLLM's CPU build does not make, or makes with AVX-512 alone, for processors without it: plain torch in their place.

What is exchanged is the arithmetic of a layer: linears in int8 (CPUInt8ScaledMMLinearKernel, whose product is not exact without VNNI), experts in int8
(ZenCPUExpertsInt8, whose product is zentorch's), linears and experts in int4 (CPUWNA16LinearKernel, CPUExpertsInt4). Experts in int8 and int4 it refuses for GLM's routing, by sigmoid, on every processor: theirs are exchanged everywhere. What is loaded, under which names, how it is fused, routed, scheduled and drafted stays vLLM's.
Int8 x int8 is summed exactly (float64 of integers below 2**53), as those kernels do; int4 weights are widened and multiplied in float32.
"""
import json
import os

import torch


def lend():
    """Puts the products in their place: experts, and linears where the processor has no AVX-512. The file that GLMCONV_KERNELS names lists what was used."""
    experts_int8()
    experts_int4()
    if not torch.cpu._is_avx512_supported():
        linears_int8()
        linears_int4()


def say(what):
    path = os.environ.get("GLMCONV_KERNELS")
    if not path:
        return
    said = json.load(open(path)) if os.path.exists(path) else []
    if what not in said:
        with open(path, "w") as f:
            json.dump(said + [what], f)


def always(*_, **__):
    return True


def rounded(x):
    """Codes and scales of int8 activations, symmetric, one scale a token."""
    scale = (x.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-10)
    return (x / scale).round().clamp(-128, 127), scale


def int8_product(x, weight, scale):
    """x [T, K], weight [N, K] int8, scale [N]; float32 [T, N]."""
    codes, s = rounded(x)
    return (codes.double() @ weight.double().t()).float() * s * scale.float().reshape(1, -1)


def unpacked(packed, axis):
    """The codes -8 … 7 of uint4b8, eight to an int32 along axis, lowest bits first."""
    parts = torch.stack([(packed >> 4 * i) & 15 for i in range(8)], axis + 1)
    shape = list(packed.shape)
    shape[axis] *= 8
    return parts.reshape(shape) - 8


def widened(codes, scale):
    """codes [..., N, K], scale [..., N, G]."""
    groups = scale.shape[-1]
    return (codes.unflatten(-1, (groups, -1)).float() * scale.float()[..., None]).flatten(-2)


def experts(output, x, topk_weights, topk_ids, product):
    """The sum over the chosen experts, float32 in between; product(x, expert, up) makes gate and up, or down."""
    out = torch.zeros(x.shape, dtype=torch.float32)
    for e in topk_ids.unique().tolist():
        token, place = (topk_ids == e).nonzero(as_tuple=True)
        gate, up = product(x[token].float(), e, True).chunk(2, -1)
        y = product(torch.nn.functional.silu(gate) * up, e, False)
        out.index_add_(0, token, y * topk_weights[token, place].float()[:, None])
    output.copy_(out)


def experts_int8():
    from vllm.model_executor.layers.fused_moe.experts.cpu_moe import ZenCPUExpertsInt8 as cls

    def apply(self, output, hidden_states, w1, w2, topk_weights, topk_ids, activation, *_, **__):
        say("experts in int8")
        assert activation.value == "silu" and self.w1_bias is None
        scales = (self._w2_scale_f32, self._w1_scale_f32)
        experts(output, hidden_states, topk_weights, topk_ids, lambda x, e, up: int8_product(x, (w2, w1)[up][e], scales[up][e]))
    cls._supports_current_device = cls._supports_routing_method = staticmethod(always)
    cls.apply = apply


def linears_int8():
    from vllm.model_executor.kernels.linear.scaled_mm.cpu import CPUInt8ScaledMMLinearKernel as cls

    def process(self, layer):
        say("linears in int8")
        assert self.config.input_symmetric and not self.config.is_static_input_scheme and self.config.is_channelwise

    def apply(self, layer, x, bias=None):
        weight, scale, *_ = self._get_layer_params(layer)
        y = int8_product(x.float(), weight, scale).to(x.dtype)
        return y if bias is None else y + bias
    cls.process_weights_after_loading, cls.apply_weights = process, apply


def linears_int4():
    from vllm.model_executor.kernels.linear.mixed_precision.cpu import CPUWNA16LinearKernel as cls

    def process(self, layer):
        say("linears in int4")
        packed, scale = (getattr(layer, n).data for n in (self.w_q_name, self.w_s_name))
        assert getattr(layer, self.w_q_name).packed_dim == 1, "compressed-tensors packs along the inputs"
        layer.widened = widened(unpacked(packed, 1), scale)

    def apply(self, layer, x, bias=None):
        y = (x.float() @ layer.widened.t()).to(x.dtype)
        return y if bias is None else y + bias
    cls.process_weights_after_loading, cls.apply_weights = process, apply


def experts_int4():
    from vllm.model_executor.layers.fused_moe.experts import cpu_moe
    from vllm.model_executor.layers.fused_moe.oracle import int_wna16
    cls = cpu_moe.CPUExpertsInt4

    def process(quant_config, w13, w2, w13_scale, w2_scale, *_):
        say("experts in int4")
        wide = [widened(unpacked(w, 2), s).to(torch.bfloat16) for w, s in ((w13, w13_scale), (w2, w2_scale))]
        none = torch.zeros(1, dtype=torch.int32)  # zero points, which the caller wants to see
        return (*wide, w13_scale, w2_scale, none, none, None, None, None, None)

    def apply(self, output, hidden_states, w1, w2, topk_weights, topk_ids, activation, *_, **__):
        assert activation.value == "silu"
        experts(output, hidden_states, topk_weights, topk_ids, lambda x, e, up: x @ (w2, w1)[up][e].float().t())
    cls._supports_current_device = cls._supports_routing_method = staticmethod(always)
    cls.apply, int_wna16._process_weights_cpu = apply, process
