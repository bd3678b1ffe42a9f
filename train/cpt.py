"""Stage one: a causal vision-language model learns to read in both directions, by joint reconstruction.

moca train cpt CONFIG [key=value ...]
torchrun --nproc-per-node 8 -m moca_rag.train.cpt CONFIG [key=value ...]
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import register_fsdp_forward_method

from moca_rag.backbone import Backbone
from moca_rag.checkpoint import Checkpoint, ModelSettings, find_checkpoint, read_settings, read_values
from moca_rag.costs import count_flops
from moca_rag.errors import ConfigError
from moca_rag.inputs import BLOCK, SequenceBuilder, load_tokenizer
from moca_rag.pixels import PATCH_SIDE
from moca_rag.records import PixelBudget
from moca_rag.tensors import open_tensors
from moca_rag.weights import HEAD, find_head

from .checkpoints import find_newest, read_tensors
from .corruption import CorruptedRow, MaskRates, corrupt_row, derive_seed
from .loop import Batch, Place
from .mixture import Mixture
from .packing import plan_packs, price_row
from .ranks import Ranks, shard
from .reconstruction import CorruptedPack, Objective, Reconstruction, count_values
from .rows import IMAGE_SLOT, CptRow, measure_image, split_parts, split_text
from .settings import CptSettings
from .showing import Restored, choose_rows, write_shown
from .sources import open_cpt
from .stage import compute_half, list_layers, load_trainable, make_padding, write_model

HELD_OUT_ROWS = 128


@dataclass(frozen=True, slots=True)
class Size:
    """What a row will be as a sequence: its length, the grids of its images in patches, and what is cut off."""

    length: int
    grids: tuple[tuple[int, int], ...]
    text: str
    num_images: int


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
        self._checkpoint = checkpoint
        self._ranks = ranks
        self._rows, self._held_out = rows, held_out
        model_settings = read_settings(checkpoint)
        self._pixels = PixelBudget(model_settings.min_pixels, model_settings.max_pixels)
        self._tokenizer = tokenizer = load_tokenizer(checkpoint.file("tokenizer.json"))
        backbone = load_trainable(checkpoint, settings, ranks)
        self._shape = backbone.shape
        self._mask_id = find_mask(tokenizer, model_settings, backbone.shape.text.vocab_size)
        self._model_settings = replace(model_settings, mask_token_id=self._mask_id)
        self._kept = {*tokenizer.get_added_tokens_decoder(), self._mask_id}
        self._builder = SequenceBuilder(tokenizer, self._shape.tokens, self._pixels, settings.max_tokens, tells=False)
        self._sizes: dict[int, Size | None] = {}
        self._order: tuple[int, np.ndarray] | None = None
        self._module = self._make_module(backbone)
        # Read now: later another thread reads the same files.
        shown = held_out if len(held_out) else rows
        self._shown = choose_rows(shown, partial(self._corrupt, epoch=0)) if settings.show_steps else []

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
        return self._pack(self._rows, batch.rows, batch.epoch, [self._price(row) for row in batch.rows])

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
        prices = [1.0] * len(rows)
        work = self._pack(self._held_out, rows, 0, prices, pack_cost=8.0)
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
            write_shown(folder, step, self._shown, restored, self._tokenizer, self._kept)

    def write_model(self, folder: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The backbone, and its head where it has one of its own; the decoder comes back."""
        model = {
            name.removeprefix("backbone."): tensor for name, tensor in weights.items() if name.startswith("backbone.")
        }
        if "lm_head" in weights:
            model[HEAD] = weights["lm_head"]
        write_model(folder, model, self._checkpoint, self._settings, self._model_settings)
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
        if row not in self._sizes:
            self._sizes[row] = self._rows.take(row, self._measure)
        size = self._sizes[row]
        return 0.0 if size is None else price_row(self._shape, size.length, size.grids)

    def _measure(self, row: CptRow) -> Size:
        """A row's sequence without decoding its images: cut on the right, an image that the limit cuts removed whole."""
        room = self._settings.max_tokens
        pieces = split_text(row.text, len(row.images))
        kept, grids = pieces[0], []
        room -= min(room, self._builder.count(pieces[0]))
        for image, piece in zip(row.images, pieces[1:], strict=True):
            height, width = measure_image(image, self._pixels)
            room -= height * width // BLOCK**2 + 2
            if room < 0:
                room += height * width // BLOCK**2 + 2
                break
            grids.append((height // PATCH_SIDE, width // PATCH_SIDE))
            kept += IMAGE_SLOT + piece
            room -= min(room, self._builder.count(piece))
        return Size(self._settings.max_tokens - room, tuple(grids), kept, len(grids))

    def _pack(
        self,
        table: Mixture[CptRow],
        rows: tuple[int, ...],
        epoch: int,
        prices: list[float],
        pack_cost: float = 0.0,
    ) -> Work:
        plans = plan_packs(prices, self._ranks.number, pack_cost or self._settings.pack_tokens)
        build = partial(self._corrupt, epoch=epoch)
        packs = [[table.take(rows[place], build) for place in pack] for pack in plans[self._ranks.rank]]
        filled = [[row for row in pack if row is not None] for pack in packs]
        padding = make_padding(self._shape) if self._ranks.number > 1 else None
        every = [row for pack in filled for row in pack]
        return Work(
            packs=tuple(CorruptedPack.of(pack, padding) for pack in filled if pack or padding is not None),
            num_masked=sum(len(row.masked) for row in every),
            num_values=count_values(every),
            num_tokens=sum(len(row.sequence.ids) for row in every),
            flops=sum(count_flops(self._shape, len(row.sequence.ids), row.sequence.grids) for row in every),
        )

    def _corrupt(self, row: CptRow, epoch: int) -> CorruptedRow:
        size = self._measure(row)
        sequence = self._builder.build(split_parts(size.text, row.images[: size.num_images], self._pixels))
        rates = MaskRates(self._settings.mlm_probability, self._settings.mae_ratio)
        return corrupt_row(sequence, row.row_id, rates, self._mask_id, self._kept, self._settings.seed, epoch)

    # -- the model ----------------------------------------------------------------------------------------------------

    def _make_module(self, backbone: Backbone) -> Reconstruction:
        settings = self._settings
        torch.manual_seed(settings.seed)
        objective = Objective(settings.mlm_weight, settings.mae_weight, settings.shift, settings.noise)  # type: ignore[arg-type]
        module = Reconstruction(backbone, read_head(self._checkpoint, self._ranks.device), objective)
        newest = find_newest(Path(settings.out))
        if newest is not None:
            module.load_state_dict(read_tensors(newest, "heads"), strict=False)
        module.to(self._ranks.device).requires_grad_().train()
        compute_half(module, settings, self._ranks)
        shard(module, list_layers(backbone), self._ranks)
        register_fsdp_forward_method(module, "restore")
        return module


def find_mask(tokenizer: Any, settings: ModelSettings, num_tokens: int) -> int:
    """The id of `<|mask|>`: the model's own, the tokenizer's, or the first row of the embeddings that no token uses.

    Raises ConfigError where there is no such row.
    """
    found = settings.mask_token_id
    if found is None:
        found = tokenizer.token_to_id("<|mask|>")
    if found is None:
        found = tokenizer.get_vocab_size()
    if not 0 <= found < num_tokens:
        raise ConfigError(
            f"the mask's id {found} is outside the model's {num_tokens} tokens: set mask_token_id in moca.json"
        )
    return int(found)


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
    newest = find_newest(Path(settings.out))
    if not settings.model:
        raise ConfigError("no model to start from: set model=FOLDER_OR_HUB_ID")
    found = find_checkpoint(str(newest.folder) if newest is not None else settings.model)
    rows, held_out = (
        Mixture([open_cpt(source) for source in sources], settings.max_bad_rows)
        for sources in (settings.data, settings.held_out)
    )
    if not len(rows):
        raise ConfigError("no data to learn from: set data=FILE, or a list of sources in the config")
    return CptStage(settings, found, ranks, rows, held_out)
