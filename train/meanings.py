"""Where texts should lie in the space of a model that `moca model new --teacher` made: as its vocabulary was fitted, so its text
layers go on.

There a token's numbers are its meaning, then its spelling, then one that all share. The place of a text is what a teacher
makes of it, turned onto the numbers of meaning, beside the mean of its tokens' spellings. So texts come nearer to the
teacher and stay where visual tokens, which are sums of the same tokens, look for them.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from moca_rag.backbone import Backbone
from moca_rag.errors import ConfigError
from moca_rag.records import Floats, Ids

from .vocabulary import count_meaning

MEANING = 0.75  # of a text's squared length; the rest is spelling
FROZEN = ("language_model.embed_tokens.*", "language_model.norm.*")
MOST_SPREAD = 0.05  # of the number that all tokens share, after what training did to it


class Meanings:
    """The places [N, D] of texts, from their tokens and a teacher's embeddings [N, E]."""

    def __init__(self, table: Floats, axes: Floats, middle: Floats) -> None:
        """`table` [V, D] are the tokens as the last norm leaves them, `axes` [M, E] turn what lies off the `middle` [E]."""
        self._table, self._axes, self._middle = table, axes, middle

    @classmethod
    def fit(cls, table: Floats, texts: Sequence[Ids], told: Floats) -> Self:
        """The turn under which the teacher's embeddings [N, E] of some texts come nearest to the means of their tokens.

        Orthogonal Procrustes (Schönemann, 1966): a turn keeps the teacher's cosines as they are.
        """
        middle = told.mean(axis=0)
        means = _average(table, texts)[:, : count_meaning(table.shape[1])]
        left, _, right = np.linalg.svd(means.T @ (told - middle), full_matrices=False)
        return cls(table, left @ right, middle)

    def place(self, texts: Sequence[Ids], told: Floats) -> Tensor:
        """Unit vectors [N, D]."""
        size = len(self._axes)
        turned = torch.from_numpy((told - self._middle) @ self._axes.T)
        spelling = torch.from_numpy(_average(self._table, texts)[:, size:])
        spelling[:, -1] = 0.0  # what all tokens share tells nothing
        parts = [MEANING**0.5 * normalize(turned, dim=1), (1 - MEANING) ** 0.5 * normalize(spelling, dim=1)]
        return normalize(torch.cat(parts, dim=1), dim=1)


def read_table(backbone: Backbone) -> Floats:
    """The tokens [V, D] as the last norm leaves them. Raises ConfigError where they are trained, or hold no meanings."""
    tokens, norm = backbone.language_model.embed_tokens.weight, backbone.language_model.norm
    if tokens.requires_grad or norm.weight.requires_grad:
        raise ConfigError(
            f"teacher_pull pulls texts to sums of tokens that stay as they are: set frozen={list(FROZEN)}"
        )
    shared = tokens[:, -1]
    if float(shared.max() - shared.min()) > MOST_SPREAD * float(shared.mean().abs()):
        raise ConfigError(
            "teacher_pull knows where the tokens of a model of `moca model new --teacher` hold their meanings, and this is "
            "none: leave it at 0"
        )
    with torch.no_grad():
        table: Floats = norm(tokens.float()).cpu().numpy()
    return table


def pull(rows: Tensor, places: Tensor) -> Tensor:
    """Mean distance, 1 - cosine, of unit embeddings [N, D] from where they should lie.

    >>> float(pull(torch.eye(2), torch.eye(2)))
    0.0
    """
    return 1 - (rows.float() * places.float()).sum(dim=1).mean()


def _average(table: Floats, texts: Sequence[Ids]) -> Floats:
    means: Floats = np.array([table[ids].mean(axis=0) for ids in texts], np.float32).reshape(-1, table.shape[1])
    return means
