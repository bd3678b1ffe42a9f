"""Matrix products for wide CPUs: PyTorch hands its float32 products to a library that uses half of some processors.

A 1 x 1 convolution is the same product and goes to oneDNN, which uses all of AVX-512: 2.2 times faster on an AMD EPYC, with
gradients and without another copy of the weights (docs/decisions.md).
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import conv2d

MIN_ROWS = 128  # below, oneDNN is not taken, or the detour costs more than it gains


@functools.cache
def _is_wide() -> bool:
    # By one thread PyTorch convolves itself, and slowly.
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return has_onednn and torch.backends.cpu.get_cpu_capability() == "AVX512"


def runs_wide(rows: Tensor) -> bool:
    """Whether `multiply` is the faster way for a product with these rows [M, K]."""
    return (
        rows.dtype == torch.float32
        and rows.device.type == "cpu"
        and len(rows) >= MIN_ROWS
        and torch.get_num_threads() > 1
        and _is_wide()
    )


def multiply(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product [M, N] of rows [M, K] with weight [N, K] transposed, plus bias [N], as a 1 x 1 convolution over M pixels.

    >>> multiply(torch.ones(3, 2), torch.tensor([[1.0, 2.0]])).tolist()
    [[3.0], [3.0], [3.0]]
    """
    # Channels last on both sides, by strides alone: no number moves.
    pixels, kernel = rows[None, None].permute(0, 3, 1, 2), weight[:, None, None].permute(0, 3, 1, 2)
    return conv2d(pixels, kernel, bias).permute(0, 2, 3, 1).flatten(0, 2)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same product by the faster way."""
    return (multiply if runs_wide(rows) else functional.linear)(rows, weight, bias)


class Linear(nn.Linear):
    """A linear layer for rows of states [T, D]."""

    def forward(self, states: Tensor) -> Tensor:
        """The layer's product."""
        return linear(states, self.weight, self.bias)
