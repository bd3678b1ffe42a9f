"""The two layers that both parts of the model are made of, and the rotation that tells attention where a token is."""

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from .products import Linear


class RMSNorm(nn.Module):
    """Divides each token's state by its root mean square, then weighs it."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, states: Tensor) -> Tensor:
        """States [T, D] of unit mean square, weighed."""
        return rms_norm(states, self.weight.shape, self.weight, self.eps)


class GatedMLP(nn.Module):
    """The feed-forward part of a layer: down(silu(gate(x)) * up(x))."""

    def __init__(self, size: int, inner: int, *, bias: bool) -> None:
        super().__init__()
        self.gate_proj = Linear(size, inner, bias=bias)
        self.up_proj = Linear(size, inner, bias=bias)
        self.down_proj = Linear(inner, size, bias=bias)

    def forward(self, states: Tensor) -> Tensor:
        """What the layer adds to the states [T, D]."""
        added: Tensor = self.down_proj(silu(self.gate_proj(states)) * self.up_proj(states))
        return added


def rotate(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Heads [T, H, D] turned by their tokens' angles, as `make_rotation` gives them (RoFormer, section 3.2).

    The type of the rotation decides how exactly it is computed.

    >>> rotate(torch.tensor([[[1.0, 2.0]]]), make_rotation(torch.tensor([[[torch.pi / 2]]]))).round().tolist()
    [[[-2.0, 1.0]]]
    """
    cos, sin = rotation
    return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, dims=-1), sin).to(heads.dtype)


def make_rotation(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines [T, 1, D] of angles [T, 1, D / 2]: the first half of a head turns against the second."""
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
