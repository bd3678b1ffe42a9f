"""Pre-training the obvious way: transformers' own Qwen2.5-VL over padded batches, logits at every token, a linear decoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from moca_rag.train.corruption import CorruptedRow
from moca_rag.train.optimizer import Optimizer
from moca_rag.train.reconstruction import ROW_SIZE, Objective, count_values
from moca_rag.train.settings import RunSettings
from peers import share_weights
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from moca_rag.backbone import Backbone
from moca_rag.pixels import PATCHES_PER_TOKEN, normalise_patches

NO_TARGET = -100


@dataclass(frozen=True, slots=True, eq=False)
class PaddedBatch:
    """Rows side by side: ids, mask and targets [B, L]; pixels noised and clean [P, 1176]; hidden visual tokens [V]."""

    ids: Tensor
    mask: Tensor
    targets: Tensor
    noised: Tensor
    clean: Tensor
    grids: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, rows: Sequence[CorruptedRow]) -> "PaddedBatch":
        """The rows, padded on the right to their longest."""
        clean = torch.from_numpy(normalise_patches(np.concatenate([row.sequence.patches for row in rows])))
        starts = np.cumsum([0, *(len(row.sequence.patches) // PATCHES_PER_TOKEN for row in rows)])
        noised = clean.clone().view(-1, PATCHES_PER_TOKEN, ROW_SIZE)
        for row, start in zip(rows, starts, strict=False):
            generator = torch.Generator().manual_seed(row.noise_seed)
            noise = torch.randn(len(row.hidden), PATCHES_PER_TOKEN, ROW_SIZE, generator=generator)
            noised[torch.from_numpy(row.hidden + start)] = noise
        ids = [torch.from_numpy(row.sequence.ids) for row in rows]
        targets = [torch.full_like(row, NO_TARGET) for row in ids]
        for places, row in zip(targets, rows, strict=True):
            places[row.masked] = torch.from_numpy(row.targets)
        hidden = np.concatenate([row.hidden + start for row, start in zip(rows, starts, strict=False)])
        return cls(
            ids=pad_sequence(ids, batch_first=True),
            mask=pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            targets=pad_sequence(targets, batch_first=True, padding_value=NO_TARGET),
            noised=noised.view_as(clean),
            clean=clean,
            grids=torch.tensor([[1, grid.height, grid.width] for row in rows for grid in row.sequence.grids]),
            hidden=torch.from_numpy(hidden),
        )


class PaddedTraining:
    """Float32 weights, bf16 autocast if `half`, and the optimizer that ours has; steps over the same rows."""

    def __init__(
        self, backbone: Backbone, config: Any, rows: Sequence[CorruptedRow], *, recompute: bool, half: bool
    ) -> None:
        """The model takes over the tensors of `backbone`, whose head is tied to its embeddings."""
        self._pad = backbone.shape.tokens.pad
        self._model = share_weights(backbone, config, "sdpa").requires_grad_().train()
        self._decoder = nn.Linear(backbone.shape.text.hidden_size, PATCHES_PER_TOKEN * ROW_SIZE, device=backbone.device)
        if recompute:
            self._model.gradient_checkpointing_enable()
        self._weights = nn.ModuleList([self._model, self._decoder])
        self._optimizer = Optimizer(self._weights, RunSettings())
        self._half = half
        self._rows = sorted(rows, key=lambda row: len(row.sequence.ids))  # so that little is padded
        self._num_masked, self._num_values = sum(len(row.masked) for row in rows), count_values(rows)
        self._batches: list[PaddedBatch] = []

    def lay_out(self, batch_size: int) -> None:
        """Collate the rows beforehand, so many at a time: gradients add up over a step."""
        starts = range(0, len(self._rows), batch_size)
        self._batches = [PaddedBatch.of(self._rows[start : start + batch_size]) for start in starts]

    def step(self) -> float:
        """Forward, backward and update over all rows; the loss of masked tokens."""
        self._optimizer.clear()
        mlm = sum(self._descend(batch) for batch in self._batches)
        nn.utils.clip_grad_norm_(self._weights.parameters(), RunSettings().clip)
        self._optimizer.step(RunSettings().learning_rate)
        return mlm

    def _descend(self, batch: PaddedBatch) -> float:
        device = self._model.device
        half = torch.autocast(device.type, torch.bfloat16, enabled=self._half)
        images = {"pixel_values": batch.noised.to(device), "image_grid_thw": batch.grids.to(device)}
        with half:
            states = self._model(
                input_ids=batch.ids.to(device),
                attention_mask=None if bool(batch.mask.all()) else batch.mask.to(device),
                mm_token_type_ids=(batch.ids == self._pad).int().to(device),
                use_cache=False,
                **(images if len(batch.grids) else {}),
            ).last_hidden_state
            logits = functional.linear(states, self._model.language_model.embed_tokens.weight)
            guessed = self._decoder(states[(batch.ids == self._pad).to(device)][batch.hidden.to(device)])
        wanted = batch.clean.view(-1, PATCHES_PER_TOKEN * ROW_SIZE)[batch.hidden].to(device)
        found, targets = logits[:, :-1].flatten(0, 1).float(), batch.targets[:, 1:].flatten().to(device)
        mlm = functional.cross_entropy(found, targets, ignore_index=NO_TARGET, reduction="sum") / self._num_masked
        mae = (guessed.float() - wanted).square().sum() / self._num_values
        torch.autograd.backward(mlm + Objective().mae_weight * mae)
        return mlm.item()
