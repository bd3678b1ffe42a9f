"""Hides part of a row, text tokens and image patches alike, so that the model must reconstruct it (MoCa, section 3.1).

What is hidden depends on (seed, epoch, row) alone: neither packing, nor the number of ranks, nor a pause can change it.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from moca_rag.inputs import TokenSequence
from moca_rag.records import Ids


@dataclass(frozen=True, slots=True)
class MaskRates:
    """The share of text tokens and of visual tokens that is hidden (MoCa, section 4.1)."""

    text: float = 0.4
    image: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class CorruptedRow:
    """A row with its text masked, and what must be found again.

    `masked` [M] are the places of masked text tokens and `targets` [M] their ids; `hidden` [V] are the visual tokens,
    counted over the row's images, whose patches give way to noise, drawn from `noise_seed`.
    """

    sequence: TokenSequence
    masked: Ids
    targets: Ids
    hidden: Ids
    noise_seed: int


def corrupt_row(
    sequence: TokenSequence, row_id: str, rates: MaskRates, mask_id: int, kept: Collection[int], seed: int, epoch: int
) -> CorruptedRow:
    """Mask text tokens independently, and hide a fixed share of each image's tokens.

    Tokens of `kept` (special and vision tokens) are never masked, nor is the first of the sequence: its target would be
    predicted from the sequence before it in the pack. A chosen token always becomes the mask.
    """
    generator = np.random.default_rng(derive_seed(seed, epoch, row_id))
    ids = sequence.ids
    chosen = (generator.random(len(ids)) < rates.text) & ~np.isin(ids, list(kept))
    chosen[:1] = False
    masked = np.flatnonzero(chosen)
    hidden, start = [], 0
    for grid in sequence.grids:
        count = grid.num_cells
        hidden.append(start + np.sort(generator.permutation(count)[: round(rates.image * count)]))
        start += count
    return CorruptedRow(
        sequence=replace(sequence, ids=np.where(chosen, mask_id, ids)),
        masked=masked,
        targets=ids[masked],
        hidden=np.concatenate([np.zeros(0, np.int64), *hidden]),
        noise_seed=int(generator.integers(2**62)),
    )


def derive_seed(seed: int, epoch: int, name: str) -> int:
    """A seed of 64 bits for this name in this epoch of a run.

    >>> derive_seed(0, 0, "a") != derive_seed(0, 1, "a") != derive_seed(1, 0, "a")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch} {name}".encode()).digest()[:8], "little")
