"""Exact gradients of a batch loss that does not fit: in chunks on one GPU, and over the global batch of many."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Chunk = TypeVar("Chunk")


def grad_cache(encode: Callable[[Chunk], Tensor], chunks: Sequence[Chunk], loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Backward of a loss of all chunks' embeddings [N, D], with the activations of one chunk in memory at a time.

    Embeddings are made without a graph, the loss's gradient at each is kept, and a second pass carries it into the
    parameters chunk by chunk (GradCache, arXiv 2101.06983, section 3). Gradients add up in `.grad` as after
    `loss(...).backward()`; returned is the loss, detached. `encode` must give the same numbers twice: no dropout. Ranks
    that shard the model need equally many chunks; one without rows still runs the model and returns [0, D] of a graph.
    """
    if len(chunks) == 1:  # fits as it is: one pass is enough
        value = loss(encode(chunks[0]))
        torch.autograd.backward(value)
        return value.detach()
    with torch.no_grad():
        parts = [encode(chunk) for chunk in chunks]
    cached = torch.cat(parts).requires_grad_()
    value = loss(cached)
    (gradient,) = torch.autograd.grad(value, cached)
    for chunk, part in zip(chunks, torch.split(gradient, [len(part) for part in parts]), strict=True):
        torch.autograd.backward(encode(chunk), part)
    return value.detach()


def gather_with_grad(rows: Tensor) -> Tensor:
    """All ranks' rows [n, ...] end to end, in the order of the ranks, each of which may bring another number of them.

    Backward, a rank's rows get their gradient *summed* over the ranks. The convention: every rank computes the loss of
    the whole batch, a mean over all its queries, and parameters' gradients are *averaged* over ranks, as FSDP and DDP
    do. World times the gradient, averaged, is then exactly that of one process with the whole batch. Without a process
    group the rows are returned as they are; integers (counts, hashes) gather the same way.
    """
    if not dist.is_initialized():
        return rows
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """All ranks' rows, padded for the collective and cut again."""
        number = torch.tensor([len(rows)], device=rows.device)
        numbers = [int(other) for other in _all_gather(number)]
        padded = rows.new_zeros(max(numbers), *rows.shape[1:])  # collectives want equal shapes
        padded[: len(rows)] = rows
        ctx.first, ctx.number = sum(numbers[: dist.get_rank()]), len(rows)
        return torch.cat([part[:length] for part, length in zip(_all_gather(padded), numbers, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The gradient of this rank's rows, summed over the ranks."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.first : ctx.first + ctx.number]


def _all_gather(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor)
    return parts
