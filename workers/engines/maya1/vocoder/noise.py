"""The decoder's noise: normal numbers that follow from a take's seed, the latent step and the place in it alone.

So they are the same whatever a take is batched with, however it is cut, and on any device. Philox as in `sampler`, then
Box and Muller: of the uniform a, b, c, d of a counter come r(a) cos(b), r(a) sin(b), r(c) cos(d), r(c) sin(d).
"""

import torch
from torch import Tensor

from workers.engines.maya1 import kernels, sampler

KEY = 0x736E6163  # "snac": the seed's other numbers have drawn the take's codes
TURN = 2 * torch.pi


def normal(seeds: Tensor, starts: Tensor, steps: int, values: int) -> Tensor:
    """fp32 [batch, steps, values] (a multiple of 4), from each row's own start. seeds and starts: int64 [batch]."""
    if kernels.runs_triton(seeds.device):
        from workers.engines.maya1.vocoder import noise_kernel

        return noise_kernel.normal(seeds, starts, steps, values, KEY, TURN)
    step = (starts[:, None] + torch.arange(steps, device=starts.device)).flatten()
    uniform = sampler.uniform((seeds ^ KEY).repeat_interleave(steps), step, values).view(
        len(seeds), steps, -1, 2
    )
    radius, angle = (-2 * torch.log(1 - uniform[..., 0])).sqrt(), TURN * uniform[..., 1]
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(2)
