"""Turns token states into embeddings: unit vectors, each a mean over its tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .records import Floats


def pool(states: Tensor, lengths: Sequence[int], *, causal: bool = False) -> Tensor:
    """Unit embeddings [N, D] from packed states [T, D]: `mean_pool`, or `last_pool` of a causal model."""
    return last_pool(states, lengths) if causal else mean_pool(states, lengths)


def mean_pool(states: Tensor, lengths: Sequence[int]) -> Tensor:
    """Unit embeddings [N, D] from packed states [T, D]: the mean over each sequence's tokens (MoCa, section 2.1).

    Sums run in float32: bf16 loses the small tokens of a long page. Every sequence is summed by itself, so its
    embedding does not depend on its neighbours. Raises ValueError on an empty sequence or one left over.

    >>> mean_pool(torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 3.0]]), [1, 2])
    tensor([[0.6000, 0.8000],
            [0.0000, 1.0000]])
    """
    _check_lengths(states, lengths)
    means = torch.stack([part.float().mean(dim=0) for part in torch.split(states, list(lengths))])
    return normalize(means, dim=-1)


def last_pool(states: Tensor, lengths: Sequence[int]) -> Tensor:
    """Unit embeddings [N, D] from packed states [T, D]: each sequence's last token, the only one of a causal model that
    has seen it all (MoCa, section 2.1).

    >>> last_pool(torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 3.0]]), [1, 2])
    tensor([[0.6000, 0.8000],
            [0.0000, 1.0000]])
    """
    _check_lengths(states, lengths)
    ends = torch.tensor(lengths, device=states.device).cumsum(0) - 1
    return normalize(states[ends].float(), dim=-1)


def weighted_pool(states: Tensor, weights: Tensor) -> Tensor:
    """Unit embeddings [R, D] of one sequence's states [L, D], a row of weights [R, L] each.

    With equal weights it is `mean_pool`; with weights on a part of a page it is that part's embedding, from the same
    forward pass (late chunking).

    >>> weighted_pool(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.5]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 1.0000]])
    """
    return normalize(weights.float() @ states.float(), dim=-1)


def pool_regions(
    states: Tensor, lengths: Sequence[int], weights: Sequence[Floats | None], *, causal: bool = False
) -> list[Tensor]:
    """Unit embeddings [R, D] of each sequence of packed states: `weighted_pool` by its weights, else its one `pool`.

    >>> import numpy as np
    >>> states = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 3.0]])
    >>> [rows.shape[0] for rows in pool_regions(states, [1, 2], [None, np.eye(2, dtype=np.float32)])]
    [1, 2]
    """
    if all(asked is None for asked in weights):
        return list(pool(states, lengths, causal=causal)[:, None])
    _check_lengths(states, lengths)
    return [
        pool(part, [len(part)], causal=causal)
        if asked is None
        else weighted_pool(part, torch.from_numpy(asked).to(part.device))
        for asked, part in zip(weights, torch.split(states, list(lengths)), strict=True)
    ]


def _check_lengths(states: Tensor, lengths: Sequence[int]) -> None:
    if not lengths or min(lengths) < 1 or sum(lengths) != len(states):
        raise ValueError(f"{len(states)} states cannot be pooled into sequences of {list(lengths)} tokens")
