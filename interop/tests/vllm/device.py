"""What processes of this folder that build vLLM's classes have in common: the platform of one GPU."""
from vllm.platforms import current_platform
from vllm.platforms.interface import DeviceCapability


class OneGPU:
    """While it is entered the platform is a GPU of this capability."""

    kept = ("is_cpu", "is_cuda", "is_cuda_alike", "get_device_capability", "has_device_capability", "is_device_capability", "is_device_capability_family")

    def __init__(self, major=10, minor=0):
        self.capability = DeviceCapability(major, minor)

    def __enter__(self):
        c = self.capability
        number = c.major * 10 + c.minor
        answers = dict(is_cpu=lambda: False, is_cuda=lambda: True, is_cuda_alike=lambda: True, get_device_capability=lambda *a, **k: c,
                       has_device_capability=lambda want, *a, **k: (want if isinstance(want, int) else want[0] * 10 + want[1]) <= number,
                       is_device_capability=lambda want, *a, **k: want in (number, (c.major, c.minor)), is_device_capability_family=lambda want, *a, **k: want // 10 == c.major)
        self.old = {n: vars(current_platform).get(n) for n in self.kept}
        for n, f in answers.items():
            setattr(current_platform, n, f)

    def __exit__(self, *a):
        for n, f in self.old.items():
            if f is None:
                delattr(current_platform, n)
            else:
                setattr(current_platform, n, f)
