"""The objective of continual pre-training: masked tokens and hidden patches, found again in one bidirectional pass.

L = L_MLM + w L_MAE on the same corrupted input (MoCa, section 3.1).
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from moca_rag.attention import Segments
from moca_rag.backbone import Backbone
from moca_rag.inputs import Pack
from moca_rag.language import rotate_positions
from moca_rag.pixels import PATCH_SIDE, PATCHES_PER_TOKEN, PIXEL_MEAN, PIXEL_STD, TEMPORAL_COPIES
from moca_rag.products import Linear

from .corruption import CorruptedRow

ROW_SIZE = 3 * TEMPORAL_COPIES * PATCH_SIDE**2
Noise = Literal["patch", "batch"]


@dataclass(frozen=True, slots=True)
class Objective:
    """The switches on which the paper and its released code differ, and the paper's ablations.

    `shift`: token i is predicted from the state before it (paper), or from its own. `noise`: a fresh vector a patch
    (paper), or one for the whole pack. A weight of 0 leaves a loss out.
    """

    mlm_weight: float = 1.0
    mae_weight: float = 0.5
    shift: bool = True
    noise: Noise = "patch"
    logit_rows: int = 4096


@dataclass(frozen=True, slots=True, eq=False)
class CorruptedPack:
    """Corrupted rows end to end: places [M] and [V] count over the whole pack, the latter over its visual tokens.

    `noise_seeds` holds (seed, hidden tokens) of each row. The first `num_counted` of the hidden tokens make the loss;
    the rest belong to a padding row, which makes sharded ranks run every layer together.
    """

    pack: Pack
    masked: Tensor
    targets: Tensor
    hidden: Tensor
    noise_seeds: tuple[tuple[int, int], ...]
    num_counted: int

    @classmethod
    def of(cls, rows: Sequence[CorruptedRow], padding: CorruptedRow | None = None) -> Self:
        """The rows in order, the padding last."""
        num_counted = sum(len(row.hidden) for row in rows)
        rows = [*rows, padding] if padding is not None else rows
        tokens = np.cumsum([0, *(len(row.sequence.ids) for row in rows)])
        visual = np.cumsum([0, *(len(row.sequence.patches) // PATCHES_PER_TOKEN for row in rows)])
        return cls(
            pack=Pack.of([row.sequence for row in rows]),
            masked=_join([row.masked + start for row, start in zip(rows, tokens, strict=False)]),
            targets=_join([row.targets for row in rows]),
            hidden=_join([row.hidden + start for row, start in zip(rows, visual, strict=False)]),
            noise_seeds=tuple((row.noise_seed, len(row.hidden)) for row in rows),
            num_counted=num_counted,
        )

    @property
    def is_padded(self) -> bool:
        """Whether a padding row is there."""
        return self.num_counted < len(self.hidden)


def count_values(rows: Sequence[CorruptedRow]) -> int:
    """The pixel values that are hidden in these rows."""
    return sum(len(row.hidden) for row in rows) * PATCHES_PER_TOKEN * ROW_SIZE


def _join(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts))


class Losses(NamedTuple):
    """Sums over a pack, each with the number of its terms: masked tokens, and pixel values of hidden patches."""

    mlm: Tensor
    num_masked: int
    mae: Tensor
    num_values: int
    num_right: Tensor


class Guesses(NamedTuple):
    """What a model puts in place of what it cannot see: ids [M] of masked tokens, normalised pixels [V, 4704]."""

    ids: Tensor
    pixels: Tensor


class Reconstruction(nn.Module):
    """A backbone with the two heads of pre-training: the language head, and a decoder of one layer for patches.

    The decoder starts as a copy of the middle text layer and is dropped with the head's projection after training.
    """

    def __init__(self, backbone: Backbone, head: Tensor | None, objective: Objective) -> None:
        """`head` [V, D] is the language head where the model has one of its own; tied to the embeddings without."""
        super().__init__()
        self.backbone = backbone
        self.objective = objective
        self.lm_head = None if head is None else nn.Parameter(head)
        layers = backbone.language_model.layers
        self.mae_decoder = deepcopy(layers[len(layers) // 2])
        size = backbone.shape.text.hidden_size
        self.mae_proj = Linear(size, PATCHES_PER_TOKEN * ROW_SIZE)
        nn.init.normal_(self.mae_proj.weight, std=0.02)
        self.expect(torch.zeros(3))

    def expect(self, colour: Tensor) -> None:
        """Let the decoder begin by guessing that every hidden patch has this normalised colour [3]."""
        with torch.no_grad():
            self.mae_proj.bias.copy_(colour.repeat_interleave(ROW_SIZE // 3).repeat(PATCHES_PER_TOKEN))

    def forward(self, batch: CorruptedPack) -> Losses:
        """The losses of a pack, as sums."""
        pack, device = batch.pack, self.backbone.device
        hidden = batch.hidden.to(device)
        states, clean = self._read(batch)
        mlm, num_right = self._find_tokens(states, batch.masked.to(device), batch.targets.to(device))
        mae = states.new_zeros((), dtype=torch.float32)
        if clean is not None and len(hidden) and self.objective.mae_weight:
            mae = self._find_patches(states, pack, clean, hidden)[: batch.num_counted].sum()
        if batch.is_padded:
            mlm = mlm + 0 * states.float().sum()  # every layer takes part in the backward pass too
        num_values = batch.num_counted * PATCHES_PER_TOKEN * ROW_SIZE if self.objective.mae_weight else 0
        return Losses(mlm, len(batch.masked), mae, num_values, num_right)

    def restore(self, batch: CorruptedPack) -> Guesses:
        """What the model puts in place of all masked tokens and hidden patches of a pack."""
        states, _ = self._read(batch)
        rows, head = self._select(states, batch.masked.to(states.device))
        parts = [
            functional.linear(part, head.to(part.dtype)).argmax(-1)
            for part in torch.split(rows, self.objective.logit_rows)
        ]
        pixels = states.new_zeros(0, PATCHES_PER_TOKEN * ROW_SIZE, dtype=torch.float32)
        if len(batch.hidden):
            pixels = self._decode(states, batch.pack, batch.hidden.to(states.device))
        return Guesses(torch.cat(parts), pixels)

    def total(self, losses: Losses, num_masked: int, num_values: int) -> Tensor:
        """The loss to descend: each sum over the number of its terms in the whole batch."""
        mlm = self.objective.mlm_weight * losses.mlm / max(num_masked, 1)
        return mlm + self.objective.mae_weight * losses.mae / max(num_values, 1)

    def _read(self, batch: CorruptedPack) -> tuple[Tensor, Tensor | None]:
        """The states [T, D] of a corrupted pack, and the normalised pixel rows of its images before that."""
        pack, device = batch.pack, self.backbone.device
        if not pack.grids:
            return self.backbone(pack, None), None
        clean = normalise(torch.from_numpy(pack.patches).to(device))
        return self.backbone(pack, self._add_noise(clean, batch.hidden.to(device), batch.noise_seeds)), clean

    def _add_noise(self, clean: Tensor, hidden: Tensor, seeds: Sequence[tuple[int, int]]) -> Tensor:
        """The patch rows with those of hidden tokens replaced by unit Gaussian noise, before the vision tower."""
        if not len(hidden):
            return clean
        generator = torch.Generator(clean.device)
        if self.objective.noise == "batch":
            generator.manual_seed(seeds[0][0])
            noise = torch.randn(1, 1, ROW_SIZE, generator=generator, device=clean.device).expand(
                len(hidden), PATCHES_PER_TOKEN, ROW_SIZE
            )
        else:
            noise = torch.cat(
                [
                    torch.randn(
                        count, PATCHES_PER_TOKEN, ROW_SIZE, generator=generator.manual_seed(seed), device=clean.device
                    )
                    for seed, count in seeds
                ]
            )
        cells = clean.view(-1, PATCHES_PER_TOKEN, ROW_SIZE)
        return cells.index_copy(0, hidden, noise.to(clean.dtype)).view_as(clean)

    def _find_tokens(self, states: Tensor, masked: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The summed cross entropy of masked tokens, and how many were guessed right; logits a few rows at a time."""
        rows, head = self._select(states, masked)
        loss, right = states.new_zeros((), dtype=torch.float32), torch.zeros((), dtype=torch.long, device=states.device)
        step = self.objective.logit_rows
        for part, wanted in zip(torch.split(rows, step), torch.split(targets, step), strict=True):
            found, hits = checkpoint(_score_tokens, part, head, wanted, use_reentrant=False)
            loss, right = loss + found, right + hits
        return loss, right

    def _select(self, states: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """The states [M, D] from which masked tokens are predicted, and the language head [V, D]."""
        head = self.backbone.language_model.embed_tokens.weight if self.lm_head is None else self.lm_head
        return states[masked - 1 if self.objective.shift else masked], head

    def _find_patches(self, states: Tensor, pack: Pack, clean: Tensor, hidden: Tensor) -> Tensor:
        """The squared error [V] of the hidden tokens' normalised pixels, summed."""
        wanted = clean.view(-1, PATCHES_PER_TOKEN * ROW_SIZE)[hidden]
        errors: Tensor = (self._decode(states, pack, hidden) - wanted).square().sum(dim=1)
        return errors

    def _decode(self, states: Tensor, pack: Pack, hidden: Tensor) -> Tensor:
        """The normalised pixels [V, 4704] of hidden tokens, through the decoder over all states."""
        positions = torch.from_numpy(pack.positions).to(states.device)
        rotation = rotate_positions(positions, self.backbone.shape.text, states.dtype)
        decoded = self.mae_decoder(states, rotation, Segments.of(pack.lengths, states.device))
        slots = torch.from_numpy(np.flatnonzero(pack.ids == self.backbone.shape.tokens.pad)).to(states.device)
        guessed: Tensor = self.mae_proj(decoded[slots[hidden]]).float()
        return guessed


def normalise(patches: Tensor) -> Tensor:
    """Normalised pixel rows [P, 1176], float32, of uint8 patch rows [P, 588]: channel, temporal copy, y, x."""
    mean, std = (torch.tensor(values, device=patches.device)[:, None] for values in (PIXEL_MEAN, PIXEL_STD))
    normal = (patches.view(len(patches), 3, -1).float() / 255 - mean) / std
    return normal[:, :, None].expand(-1, -1, TEMPORAL_COPIES, -1).reshape(len(patches), ROW_SIZE)


def _score_tokens(rows: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits = functional.linear(rows, head.to(rows.dtype)).float()
    return functional.cross_entropy(logits, targets, reduction="sum"), (logits.argmax(dim=-1) == targets).sum()
