"""Contrastive loss of a batch: a query's positive against every other document (MoCa, section 2.3, equation 3).

A batch stands pair by pair: documents [M, D] are each pair's positive followed by its hard negatives. `positives` [N] are
the rows of the queries' positives, ascending; queries of one pair have the same. Documents with an embedding of each of
their regions [M, R, D] score by the best. Embeddings are unit vectors, and all that counts is computed in float32.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, normalize

from moca_rag.errors import ConfigError

Negatives = Literal["all", "own"]


def place_positives(counts: Tensor) -> Tensor:
    """Rows [N] of the positives, from the number of documents that each query brings [N]: itself a positive and K more.

    >>> place_positives(torch.tensor([3, 1, 2])).tolist()
    [0, 3, 4]
    """
    return counts.cumsum(0) - counts


def mask_duplicates(hashes: Tensor, positives: Tensor) -> Tensor:
    """True [N, M] where a document is a query's positive over again, by its content's hash [M] (int64).

    Such a document is no negative: label-like targets ("a dog") fill a batch with them. The positive itself is False.

    >>> mask_duplicates(torch.tensor([7, 8, 7]), torch.tensor([0, 1])).tolist()
    [[False, False, True], [False, False, False]]
    """
    return (hashes[positives, None] == hashes).scatter(1, positives[:, None], False)


def score_documents(
    queries: Tensor, documents: Tensor, positives: Tensor, *, same: Tensor | None = None, negatives: Negatives = "all"
) -> Tensor:
    """Cosines [N, M] of queries and documents, minus infinity where a document is neither positive nor negative.

    That is where `same` [N, M] is True, and with `negatives="own"` at the hard negatives of other queries: the paper
    ranks a positive against all documents of the batch, the released code against the positives and its own negatives.
    """
    if negatives not in get_args(Negatives):
        raise ConfigError(f"negatives={negatives!r}: give all (the paper) or own (the released code)")
    scores = queries.float() @ documents.float().flatten(0, -2).T
    if documents.dim() == 3:
        scores = scores.view(len(queries), *documents.shape[:2]).amax(dim=-1)
    if negatives == "own":
        is_positive = torch.zeros(len(documents), dtype=torch.bool, device=positives.device)
        is_positive[positives] = True
        owners = is_positive.cumsum(0)
        foreign = owners != owners[positives, None]
        scores = scores.masked_fill(foreign & ~is_positive, -torch.inf)
    return scores if same is None else scores.masked_fill(same, -torch.inf)


def info_nce(
    queries: Tensor,
    documents: Tensor,
    positives: Tensor,
    *,
    temperature: float = 0.03,
    same: Tensor | None = None,
    negatives: Negatives = "all",
) -> Tensor:
    """Mean over the queries of -log softmax(cosine / temperature) at the positive; see `score_documents`.

    >>> round(float(info_nce(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), temperature=1.0)), 4)
    0.3133
    """
    scores = score_documents(queries, documents, positives, same=same, negatives=negatives)
    return cross_entropy(scores / temperature, positives)


def matryoshka_nce(
    queries: Tensor,
    documents: Tensor,
    positives: Tensor,
    *,
    dimensions: Sequence[int],
    weights: Sequence[float] | None = None,
    temperature: float = 0.03,
    same: Tensor | None = None,
    negatives: Negatives = "all",
) -> Tensor:
    """Weighted sum of `info_nce` over embeddings cut to their first numbers, each cut brought back to unit length.

    Weights are 1 unless given (Matryoshka, arXiv 2205.13147, equation 1). The full embedding takes part only where
    `dimensions` names it. Raises ConfigError on a cut that the embedding does not have.
    """
    size = queries.shape[1]
    if not dimensions or not all(1 <= dimension <= size for dimension in dimensions):
        raise ConfigError(f"dimensions={list(dimensions)}: give one or more from 1 to {size}, the model's own")
    if weights is not None and len(weights) != len(dimensions):
        raise ConfigError(f"{len(weights)} weights for dimensions={list(dimensions)}: give one for each")
    losses = [
        info_nce(
            normalize(queries[:, :dimension].float(), dim=-1),
            normalize(documents[..., :dimension].float(), dim=-1),
            positives,
            temperature=temperature,
            same=same,
            negatives=negatives,
        )
        for dimension in dimensions
    ]
    stacked = torch.stack(losses)
    return stacked.sum() if weights is None else stacked @ stacked.new_tensor(weights)


def distil(rows: Tensor, meanings: Tensor, *, temperature: float = 0.05) -> Tensor:
    """Mean over a batch's texts of KL(teacher || student) between how each compares the text with all others.

    `rows` [N, D] are unit embeddings, `meanings` [N, E] those of a teacher: only their cosines meet, so that sizes may
    differ (relational distillation, Park et al. 2019, arXiv 1904.05068, over a softmax as in contrastive losses).

    >>> float(distil(torch.eye(3), torch.eye(3)))
    0.0
    """
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    found, wanted = (
        (vectors.float() @ vectors.float().T / temperature).masked_fill(own, -1e4).log_softmax(dim=-1)
        for vectors in (rows, meanings)
    )
    return kl_div(found, wanted, reduction="batchmean", log_target=True)


def accuracy(
    queries: Tensor, documents: Tensor, positives: Tensor, *, same: Tensor | None = None, negatives: Negatives = "all"
) -> Tensor:
    """Share of the queries whose positive outscores each of its negatives; a tie is a miss.

    >>> float(accuracy(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])))
    0.0
    """
    scores = score_documents(queries, documents, positives, same=same, negatives=negatives)
    return ((scores >= scores.gather(1, positives[:, None])).sum(1) == 1).float().mean()
