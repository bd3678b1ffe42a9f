"""Stage one: a causal vision-language model learns to read in both directions, by joint reconstruction.

moca train cpt CONFIG [key=value ...]
torchrun --nproc-per-node 8 -m moca_rag.train.cpt CONFIG [key=value ...]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import register_fsdp_forward_method

from moca_rag.backbone import Backbone
from moca_rag.checkpoint import Checkpoint, read_values
from moca_rag.costs import count_flops
from moca_rag.errors import ConfigError
from moca_rag.tensors import open_tensors
from moca_rag.weights import HEAD, find_head

from .checkpoints import find_newest, read_tensors
from .corruption import CorruptedRow, derive_seed
from .crew import Crew
from .loop import Batch, Place
from .mixture import Fault, Mixture, open_mixtures
from .packing import plan_packs, price_row
from .ranks import Ranks, shard
from .readers import CptKey, CptReader, Size, open_cpt_rows
from .reconstruction import ROW_SIZE, CorruptedPack, Objective, Reconstruction, count_values, normalise
from .rows import CptRow
from .settings import CptSettings
from .showing import Restored, choose_rows, write_shown
from .sources import open_cpt
from .stage import Frame, compute_half, find_start, list_layers, load_trainable, make_padding, write_model

HELD_OUT_ROWS = 128
COLOUR_ROWS = 16
MEASURED_AHEAD = 8  # rows for each process of a crew


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """This rank's packs of a batch; an empty one keeps step with the other ranks."""

    packs: tuple[CorruptedPack, ...]
    num_masked: int
    num_values: int
    num_tokens: int
    flops: int


class CptStage:
    """What the loop asks of stage one."""

    def __init__(
        self,
        settings: CptSettings,
        checkpoint: Checkpoint,
        ranks: Ranks,
        rows: Mixture[CptRow],
        held_out: Mixture[CptRow],
    ) -> None:
        """`rows` are to learn from, `held_out` to be judged by."""
        self._settings = settings
        self._ranks = ranks
        self._rows, self._held_out = rows, held_out
        self._reader = reader = CptReader(checkpoint, settings)
        self._shape = reader.shape
        frame = Frame.of(checkpoint)
        self._frame = replace(frame, settings=replace(frame.settings, mask_token_id=reader.mask_id))
        # Of its own processes each opens the rows again; with none they are read from those that are open here.
        self._crew: Crew[CptKey, Size | CorruptedRow | Fault] = (
            Crew(settings.workers, open_cpt_rows, checkpoint, settings)
            if settings.workers
            else Crew(0, lambda: partial(reader.read, rows))
        )
        self._prices: dict[int, float] = {}
        self._order: tuple[int, np.ndarray] | None = None
        self._module = self._make_module(
            load_trainable(checkpoint, settings, ranks), read_head(checkpoint, ranks.device)
        )
        # Read now: later another thread reads the same files.
        shown = held_out if len(held_out) else rows
        self._shown = choose_rows(shown, partial(reader.corrupt, epoch=0)) if settings.show_steps else []

    @property
    def module(self) -> nn.Module:
        """Backbone, language head and decoder."""
        return self._module

    @property
    def num_steps(self) -> int:
        """As set, or as many as the epochs are worth by the cost of a sample of the rows."""
        if self._settings.steps:
            return self._settings.steps
        sample = [self._price(row) for row in range(0, len(self._rows), max(1, len(self._rows) // 256))]
        known = [price for price in sample if price]
        if not known:
            raise ConfigError("no row of the data can be read: look at its columns")
        whole = len(self._rows) * sum(known) / len(sample)
        return max(1, round(self._settings.epochs * whole / self._settings.batch_tokens))

    def take(self, place: Place) -> Batch:
        """Rows in the epoch's order until their cost fills a batch; an epoch's last one may be smaller."""
        order = self._shuffle(place.epoch)
        rows: list[int] = []
        cost, used = 0.0, place.used
        while used < len(order) and cost < self._settings.batch_tokens:
            row = int(order[used])
            if row not in self._prices:
                self._measure(order[used : used + (MEASURED_AHEAD * self._settings.workers or 1)].tolist())
            used += 1
            if price := self._price(row):
                rows.append(row)
                cost += price
        if not rows:
            if place.used == 0:
                raise ConfigError("no row of the data can be read: look at its columns")
            return self.take(Place(place.epoch + 1))
        following = Place(place.epoch, used) if used < len(order) else Place(place.epoch + 1)
        return Batch(tuple(rows), place.epoch, following)

    def prepare(self, batch: Batch) -> Work:
        """This rank's rows, decoded, corrupted and packed."""
        plan = self._plan([self._price(row) for row in batch.rows], self._settings.pack_tokens)
        wanted = [batch.rows[place] for pack in plan for place in pack if not self._rows.is_bad(batch.rows[place])]
        built = self._crew.build([(row, batch.epoch) for row in wanted])
        found = {row: self._rows.keep(row, one) for row, one in zip(wanted, built, strict=True)}
        return self._pack([[found.get(batch.rows[place]) for place in pack] for pack in plan])

    def run(self, prepared: Work) -> dict[str, float]:
        """Forward and backward over this rank's packs; the losses are means over the global batch."""
        counts = self._ranks.add_up({"masked": prepared.num_masked, "values": prepared.num_values})
        sums = {"mlm": 0.0, "mae": 0.0, "right": 0.0}
        for pack in prepared.packs:
            losses = self._module(pack)
            total = self._module.total(losses, int(counts["masked"]), int(counts["values"]))
            torch.autograd.backward(total * self._ranks.number)
            sums["mlm"] += losses.mlm.item()
            sums["mae"] += losses.mae.item()
            sums["right"] += losses.num_right.item()
        own = {"masked": prepared.num_masked, "values": prepared.num_values}
        return sums | own | {"tokens": prepared.num_tokens, "flops": 3 * prepared.flops}

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Losses as means over the batch, the share of masked tokens found, and what was worked through."""
        mlm, mae = sums["mlm"] / max(sums["masked"], 1), sums["mae"] / max(sums["values"], 1)
        return {
            "loss": self._settings.mlm_weight * mlm + self._settings.mae_weight * mae,
            "mlm_loss": mlm,
            "mae_loss": mae,
            "masked_accuracy": sums["right"] / max(sums["masked"], 1),
            "tokens": sums["tokens"],
            "flops": sums["flops"],
        }

    def judge(self) -> dict[str, float]:
        """The sums of `run` over held-out rows, corrupted always alike, without learning from them."""
        rows = tuple(range(min(len(self._held_out), HELD_OUT_ROWS)))
        if not rows:
            return {}
        corrupt = partial(self._reader.corrupt, epoch=0)
        plan = self._plan([1.0] * len(rows), 8.0)
        work = self._pack([[self._held_out.take(rows[place], corrupt) for place in pack] for pack in plan])
        sums = {"mlm": 0.0, "mae": 0.0, "right": 0.0}
        with torch.no_grad():
            for pack in work.packs:
                losses = self._module(pack)
                found = (losses.mlm.item(), losses.mae.item(), losses.num_right.item())
                sums = {name: sums[name] + value for name, value in zip(sums, found, strict=True)}
        return sums | {
            "masked": work.num_masked,
            "values": work.num_values,
            "tokens": work.num_tokens,
            "flops": work.flops,
        }

    def show(self, step: int, done: bool) -> None:
        """What the model makes of a few rows, as a picture; sharded ranks run them all together, and one draws."""
        if not self._shown or (step % self._settings.show_steps and not done):
            return
        with torch.no_grad():
            guesses = [self._module.restore(CorruptedPack.of([row])) for row in self._shown]
        if self._ranks.leads:
            restored = [Restored(guess.ids.cpu().numpy(), guess.pixels.cpu().numpy()) for guess in guesses]
            folder = Path(self._settings.out) / "shown"
            write_shown(folder, step, self._shown, restored, self._reader.tokenizer, self._reader.kept)

    def write_model(self, folder: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The backbone, and its head where it has one of its own; the decoder comes back."""
        model = {
            name.removeprefix("backbone."): tensor for name, tensor in weights.items() if name.startswith("backbone.")
        }
        if "lm_head" in weights:
            model[HEAD] = weights["lm_head"]
        write_model(folder, model, self._frame, self._settings)
        return {name: tensor for name, tensor in weights.items() if name.startswith("mae_")}

    def fingerprint(self) -> str:
        """A hash of the rows to learn from."""
        return self._rows.fingerprint()

    def name_rows(self, batch: Batch) -> str:
        """The rows' sources and places."""
        return self._rows.name_rows(batch.rows)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _shuffle(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            seed = derive_seed(self._settings.seed, epoch, "order")
            self._order = (epoch, np.random.default_rng(seed).permutation(len(self._rows)))
        return self._order[1]

    def _price(self, row: int) -> float:
        """The cost of a row; 0 for one that cannot be read, which is counted and passed over."""
        if row not in self._prices:
            self._measure([row])
        return self._prices[row]

    def _measure(self, rows: Sequence[int]) -> None:
        found = self._crew.build([(row, None) for row in rows])
        for row, size in zip(rows, found, strict=True):
            kept = cast(Size | None, self._rows.keep(row, size))
            self._prices[row] = 0.0 if kept is None else price_row(self._shape, kept.length, kept.grids)

    def _plan(self, prices: Sequence[float], pack_cost: float) -> list[list[int]]:
        """Which rows go into which of this rank's packs, by their places."""
        return plan_packs(prices, self._ranks.number, pack_cost)[self._ranks.rank]

    def _pack(self, packs: Sequence[Sequence[Any]]) -> Work:
        """Rows put together; where one could not be read stands None."""
        filled: list[list[CorruptedRow]] = [[row for row in pack if row is not None] for pack in packs]
        padding = make_padding(self._shape) if self._ranks.number > 1 else None
        every = [row for pack in filled for row in pack]
        return Work(
            packs=tuple(CorruptedPack.of(pack, padding) for pack in filled if pack or padding is not None),
            num_masked=sum(len(row.masked) for row in every),
            num_values=count_values(every),
            num_tokens=sum(len(row.sequence.ids) for row in every),
            flops=sum(count_flops(self._shape, len(row.sequence.ids), row.sequence.grids) for row in every),
        )

    # -- the model ----------------------------------------------------------------------------------------------------

    def _make_module(self, backbone: Backbone, head: Tensor | None) -> Reconstruction:
        settings = self._settings
        torch.manual_seed(settings.seed)
        objective = Objective(settings.mlm_weight, settings.mae_weight, settings.shift, settings.noise)  # type: ignore[arg-type]
        module = Reconstruction(backbone, head, objective)
        newest = find_newest(Path(settings.out))
        if newest is not None:
            module.load_state_dict(read_tensors(newest, "heads"), strict=False)
        elif settings.mae_weight:
            module.expect(find_colour(self._rows, self._reader))
        module.to(self._ranks.device).train()
        compute_half(module, settings, self._ranks)
        shard(module, list_layers(backbone), self._ranks)
        register_fsdp_forward_method(module, "restore")
        return module


def find_colour(rows: Mixture[CptRow], reader: CptReader) -> Tensor:
    """The mean normalised colour [3] of the pictures of a few rows, the same for all ranks; 0 where they have none."""
    sums, number = torch.zeros(3), 0
    for place in range(0, len(rows), max(1, len(rows) // COLOUR_ROWS)):
        row = rows.take(place, partial(reader.corrupt, epoch=0))
        if row is not None and len(row.sequence.patches):
            sums += normalise(torch.from_numpy(row.sequence.patches)).view(-1, 3, ROW_SIZE // 3).mean(dim=(0, 2))
            number += 1
    return sums / max(number, 1)


def read_head(checkpoint: Checkpoint, device: torch.device) -> Tensor | None:
    """The language head [V, D] in float32, where the model has one of its own: not tied to its embeddings."""
    path = None if read_values(checkpoint).get("tie_word_embeddings") else find_head(checkpoint)
    if path is None:
        return None
    with open_tensors(path) as file:
        head: Tensor = file.get_tensor(HEAD)
        return head.to(device, torch.float32, copy=True)


def open_stage(settings: CptSettings, ranks: Ranks) -> CptStage:
    """The stage, from the run's newest checkpoint where there is one, else from the model that was named."""
    found = find_start(settings)
    rows, held_out = open_mixtures(settings, open_cpt)
    return CptStage(settings, found, ranks, rows, held_out)
