"""Turns the patches of images into visual tokens: Qwen2.5-VL's vision tower over any number of images at once."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from .attention import Segments, attend
from .layers import GatedMLP, RMSNorm, make_rotation, rotate
from .pixels import MERGE_SIDE, PATCH_SIDE, PATCHES_PER_TOKEN, PIXEL_MEAN, PIXEL_STD, TEMPORAL_COPIES, Grid
from .products import Linear, linear
from .records import Ids
from .shapes import VisionShape

NORM_EPS = 1e-6  # fixed in Qwen2.5-VL; its config has no entry for it
CACHED_GRIDS = 64  # about 1 MB each for a page; a corpus has few page sizes


@dataclass(frozen=True, slots=True, eq=False)
class GridPlan:
    """How the tower walks over images: `order` [M] puts merged tokens into windows, `inverse` [M] back.

    `rotation` turns the patches' heads, in window order; `windows` and `images` count patches.
    """

    order: Tensor
    inverse: Tensor
    rotation: tuple[Tensor, Tensor]
    windows: tuple[int, ...]
    images: tuple[int, ...]


def order_windows(grid: Grid, side: int) -> tuple[Ids, tuple[int, ...]]:
    """The cells of a grid that are read [M], by their rank, window after window, and how many each window has.

    Windows are `side` x `side`, smaller at the right and bottom edge and where cells are left out. Equal sizes stand
    together, the largest first: windows do not see each other, so their order is free, and equal ones go through
    attention in one call.

    >>> order, sizes = order_windows(Grid(4, 6), 2)
    >>> order.tolist(), sizes
    ([0, 1, 3, 4, 2, 5], (4, 2))
    """
    downs, rights = np.divmod(grid.places, grid.columns)
    _, window, sizes = np.unique(downs // side * grid.columns + rights // side, return_inverse=True, return_counts=True)
    order = np.lexsort((window, -sizes[window]))
    return order, tuple(sorted(sizes.tolist(), reverse=True))


def plan_grid(shape: VisionShape, grid: Grid, device: torch.device) -> GridPlan:
    """The walk over one image; made once for each size of images that are read whole."""
    return _plan_whole(shape, grid, device) if grid.cells is None else _plan(shape, grid, device)


@torch.inference_mode(False)  # what is kept must serve training as well: inference tensors know no gradients
def _plan(shape: VisionShape, grid: Grid, device: torch.device) -> GridPlan:
    order, sizes = order_windows(grid, shape.window_side)
    tops, lefts = np.divmod(grid.places[order], grid.columns)
    downs, rights = np.divmod(np.arange(PATCHES_PER_TOKEN), MERGE_SIDE)
    places = [
        (MERGE_SIDE * tops[:, None] + downs).ravel(),
        (MERGE_SIDE * lefts[:, None] + rights).ravel(),
    ]
    steps = torch.arange(0, shape.head_size // 2, 2, dtype=torch.float32, device=device)
    frequencies = 1.0 / shape.rope_theta ** (steps / (shape.head_size // 2))
    axes = [torch.from_numpy(place).to(device)[:, None, None].float() * frequencies for place in places]
    angles = torch.cat(axes, dim=-1)
    return GridPlan(
        order=torch.from_numpy(order).to(device),
        inverse=torch.from_numpy(np.argsort(order)).to(device),
        rotation=make_rotation(angles),
        windows=tuple(PATCHES_PER_TOKEN * size for size in sizes),
        images=(grid.num_patches,),
    )


_plan_whole = lru_cache(CACHED_GRIDS)(_plan)


def plan_grids(shape: VisionShape, grids: tuple[Grid, ...], device: torch.device) -> GridPlan:
    """The walk over several images, one after another."""
    plans = [plan_grid(shape, grid, device) for grid in grids]
    if len(plans) == 1:
        return plans[0]
    starts = np.cumsum([0, *(len(plan.order) for plan in plans)]).tolist()
    cos, sin = (torch.cat([plan.rotation[part] for plan in plans]) for part in (0, 1))
    return GridPlan(
        order=torch.cat([plan.order + start for plan, start in zip(plans, starts, strict=False)]),
        inverse=torch.cat([plan.inverse + start for plan, start in zip(plans, starts, strict=False)]),
        rotation=(cos, sin),
        windows=tuple(size for plan in plans for size in plan.windows),
        images=tuple(size for plan in plans for size in plan.images),
    )


class PatchEmbedding(nn.Module):
    """The first layer as one matrix product.

    Its Conv3d has a stride equal to its kernel, so each patch meets the kernel once. For uint8 rows the pixel
    normalisation and the sum over the two equal temporal copies are folded into the matrix.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        kernel = (TEMPORAL_COPIES, PATCH_SIDE, PATCH_SIDE)
        self.proj = nn.Conv3d(3, size, kernel_size=kernel, stride=kernel, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """States [P, D] from uint8 patch rows [P, 588], or from normalised `pixel_values` [P, 1176]."""
        kernel = self.proj.weight
        if rows.dtype != torch.uint8:
            return linear(rows.to(kernel.dtype), kernel.flatten(1)).to(kernel.dtype)
        mean, std = (torch.tensor(values, device=kernel.device) for values in (PIXEL_MEAN, PIXEL_STD))
        summed = kernel.float().sum(dim=2) / std.view(3, 1, 1)
        shift = (summed * mean.view(3, 1, 1)).flatten(1).sum(dim=1)
        # Float32 throughout: the product is small beside the tower, and 8-bit pixels deserve exact weights.
        return linear(rows.float(), summed.flatten(1) / 255, -shift).to(kernel.dtype)


class VisionAttention(nn.Module):
    """Every patch sees all patches of its segment: a window, or in a few layers the image."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.num_heads = shape.num_heads
        self.qkv = Linear(shape.hidden_size, 3 * shape.hidden_size)
        self.proj = Linear(shape.hidden_size, shape.hidden_size)

    def forward(self, states: Tensor, rotation: tuple[Tensor, Tensor], segments: Segments) -> Tensor:
        """What attention adds to the states [P, D]."""
        query, key, value = self.qkv(states).view(len(states), 3, self.num_heads, -1).unbind(1)
        seen = attend(rotate(query, rotation), rotate(key, rotation), value, segments)
        added: Tensor = self.proj(seen.flatten(1))
        return added


class VisionLayer(nn.Module):
    """One layer of the tower."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.norm1 = RMSNorm(shape.hidden_size, NORM_EPS)
        self.norm2 = RMSNorm(shape.hidden_size, NORM_EPS)
        self.attn = VisionAttention(shape)
        self.mlp = GatedMLP(shape.hidden_size, shape.intermediate_size, bias=True)

    def forward(self, states: Tensor, rotation: tuple[Tensor, Tensor], segments: Segments) -> Tensor:
        """The next states [P, D]."""
        states = states + self.attn(self.norm1(states), rotation, segments)
        added: Tensor = self.mlp(self.norm2(states))
        return states + added


class PatchMerger(nn.Module):
    """Joins 2 x 2 patches to one visual token of the text layers' size."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        joined = PATCHES_PER_TOKEN * shape.hidden_size
        self.ln_q = RMSNorm(shape.hidden_size, NORM_EPS)
        self.mlp = nn.Sequential(Linear(joined, joined), nn.GELU(), Linear(joined, shape.out_hidden_size))

    def forward(self, states: Tensor) -> Tensor:
        """Visual tokens [P / 4, out] from states [P, D]."""
        tokens: Tensor = self.mlp[-1](self.join(states))
        return tokens

    def join(self, states: Tensor) -> Tensor:
        """What visual tokens are made of [P / 4, 4 D]: all but the last product."""
        joined: Tensor = self.mlp[:-1](self.ln_q(states).view(len(states) // PATCHES_PER_TOKEN, -1))
        return joined


class VisionTower(nn.Module):
    """Qwen2.5-VL's vision transformer (Qwen2.5-VL technical report, section 2.1.1), packed, under its own tensor names."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = PatchEmbedding(shape.hidden_size)
        self.blocks = nn.ModuleList(VisionLayer(shape) for _ in range(shape.depth))
        self.merger = PatchMerger(shape)

    def forward(self, rows: Tensor, grids: tuple[Grid, ...]) -> Tensor:
        """Visual tokens [M, out] of images whose patch rows [P, 588 or 1176] stand end to end."""
        states, plan = self._read(rows, grids)
        tokens: Tensor = self.merger(states)
        return tokens[plan.inverse]

    def read(self, rows: Tensor, grids: tuple[Grid, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """The last states [P, D] of the patches in the order of their rows, what the merger joins them to, and the tokens."""
        states, plan = self._read(rows, grids)
        patches = states.view(len(plan.order), -1)[plan.inverse].view_as(states)
        joined = self.merger.join(states)[plan.inverse]
        return patches, joined, self.merger.mlp[-1](joined)

    def _read(self, rows: Tensor, grids: tuple[Grid, ...]) -> tuple[Tensor, GridPlan]:
        """The last states of the patches, window after window."""
        plan = plan_grids(self.shape, grids, rows.device)
        windows, images = (Segments.of(lengths, rows.device) for lengths in (plan.windows, plan.images))
        rows = rows.view(-1, PATCHES_PER_TOKEN, rows.shape[-1])[plan.order].flatten(0, 1)
        states = self.patch_embed(rows)
        for index, block in enumerate(self.blocks):
            states = block(states, plan.rotation, images if index in self.shape.fullatt_block_indexes else windows)
        return states, plan
