"""Stage zero: a model that knows nothing learns to read, and becomes the causal vision-language model that stage one takes.

moca train base CONFIG [key=value ...]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moca_rag.backbone import Backbone
from moca_rag.checkpoint import Checkpoint, read_values
from moca_rag.costs import count_flops
from moca_rag.errors import ConfigError
from moca_rag.shapes import read_shape

from .checkpoints import find_newest, read_tensors
from .crew import Crew
from .lessons import LessonRates, LessonSupply, Row, open_lessons
from .letters import code_words
from .loop import Batch, Place
from .ranks import Ranks, shard
from .reader import LessonPack, Reader, Readings
from .settings import BaseSettings
from .stage import Frame, compute_half, find_start, list_layers, load_trainable, write_model

HELD_OUT_LESSONS = 64
NUM_CHOICES = 1000  # words among which one must be named rightly


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """This rank's packs of a batch, and what its losses are means over: patches, visual tokens, tokens to be guessed."""

    packs: tuple[LessonPack, ...]
    num_patches: int
    num_guessed: int
    num_tokens: int
    flops: int


class BaseStage:
    """What the loop asks of stage zero."""

    def __init__(
        self,
        settings: BaseSettings,
        checkpoint: Checkpoint,
        ranks: Ranks,
        lessons: LessonSupply,
        held_out: LessonSupply | None,
    ) -> None:
        """`lessons` are to learn from, `held_out` to be judged by."""
        self._settings, self._ranks = settings, ranks
        self._lessons, self._frame = lessons, Frame.of(checkpoint)
        self._read_held_out = None if held_out is None else open_lessons(held_out)
        self._crew = Crew(settings.workers, open_lessons, lessons)
        self._module = self._make_module(load_trainable(checkpoint, settings, ranks))

    @property
    def module(self) -> Reader:
        """The backbone and the heads of the lessons."""
        return self._module

    @property
    def num_steps(self) -> int:
        """As set: lessons have no end."""
        if not self._settings.steps:
            raise ConfigError("lessons have no end: set steps=N")
        return self._settings.steps

    def take(self, place: Place) -> Batch:
        """The next numbers."""
        end = place.used + self._settings.batch_size
        return Batch(tuple(range(place.used, end)), 0, Place(0, end))

    def prepare(self, batch: Batch) -> Work:
        """This rank's pages, composed and packed."""
        return self._pack(self._crew.build(batch.rows[self._ranks.rank :: self._ranks.number]))

    def run(self, prepared: Work) -> dict[str, float]:
        """Forward and backward; the losses are means over the patches and tokens of the global batch."""
        counts = self._ranks.add_up({"patches": prepared.num_patches, "guessed": prepared.num_guessed})
        return self._add_up(prepared, counts, learn=True)

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Losses as means, letters as F1 per patch, and what was worked through."""
        settings, cells = self._settings, max(sums["patches"] / 4, 1)
        found = {
            "letter_loss": sums["letters"] / max(sums["patches"], 1),
            "word_loss": sums["words"] / cells,
            "sum_loss": sums["sums"] / cells,
            "token_loss": sums["tokens_loss"] / max(sums["guessed"], 1),
        }
        weights = (settings.letter_weight, settings.word_weight, settings.sum_weight, settings.token_weight)
        return {
            "loss": sum(weight * loss for weight, loss in zip(weights, found.values(), strict=True)),
            **found,
            "letter_f1": 2 * sums["hits"] / max(sums["named"] + sums["there"], 1),
            **({"token_accuracy": sums["right"] / sums["guessed"]} if sums["guessed"] else {}),
            **({"words_read": sums["words_read"] / sums["words_there"]} if sums.get("words_there") else {}),
            "tokens": sums["tokens"],
            "flops": sums["flops"],
        }

    def judge(self) -> dict[str, float]:
        """The sums of `run` over held-out pages, and how many words are named rightly among a thousand."""
        if self._read_held_out is None:
            return {}
        numbers = range(self._ranks.rank, HELD_OUT_LESSONS, self._ranks.number)
        work = self._pack(list(map(self._read_held_out, numbers)))
        choices = sorted({word for pack in work.packs for word in pack.words})
        choices = choices[:: max(1, len(choices) // NUM_CHOICES)]
        with torch.no_grad():
            sums = self._add_up(work, {"patches": 1.0, "guessed": 1.0}, learn=False)
            counts = [count_words(self._module.name_words(pack).cpu(), pack, choices) for pack in work.packs]
        sums["words_read"], sums["words_there"] = (float(sum(part)) for part in zip(*counts, strict=True))
        return sums

    def show(self, step: int, done: bool) -> None:
        """Nothing: what a reader makes of a page is in its figures."""

    def write_model(self, folder: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The backbone; the heads of the lessons come back."""
        model = {
            name.removeprefix("backbone."): tensor for name, tensor in weights.items() if name.startswith("backbone.")
        }
        write_model(folder, model, self._frame, self._settings)
        return {name: tensor for name, tensor in weights.items() if not name.startswith("backbone.")}

    def fingerprint(self) -> str:
        """A hash of the pages' texts and faces."""
        return self._lessons.fingerprint()

    def name_rows(self, batch: Batch) -> str:
        """The numbers of the lessons."""
        return f"the lessons {batch.rows[0]:,} to {batch.rows[-1]:,}"

    # -- inside -------------------------------------------------------------------------------------------------------

    def _add_up(self, work: Work, counts: Mapping[str, float], *, learn: bool) -> dict[str, float]:
        names = ("letters", "words", "sums", "tokens_loss", "right", "hits", "named", "there")
        sums = dict.fromkeys(names, 0.0)
        for pack in work.packs:
            read = self._module(pack)
            if learn:
                torch.autograd.backward(self._total(read, counts) * self._ranks.number)
            found = (
                read.letters.item(),
                read.words.item(),
                read.sums.item(),
                read.tokens.item(),
                read.right.item(),
                *read.found.tolist(),
            )
            sums = {name: sums[name] + value for name, value in zip(names, found, strict=True)}
        own = {"patches": work.num_patches, "guessed": work.num_guessed}
        return sums | own | {"tokens": work.num_tokens, "flops": (3 if learn else 1) * work.flops}

    def _total(self, read: Readings, counts: Mapping[str, float]) -> Tensor:
        settings, patches = self._settings, max(counts["patches"], 1)
        cells = settings.word_weight * read.words + settings.sum_weight * read.sums
        guessed = settings.token_weight * read.tokens / max(counts["guessed"], 1)
        return settings.letter_weight * read.letters / patches + cells / max(patches / 4, 1) + guessed

    def _pack(self, rows: Sequence[Row]) -> Work:
        """Rows of like length together, so that equal crops go through attention in one call."""
        packs: list[list[Row]] = []
        size = 0
        for row in sorted(rows, key=lambda row: len(row[0].ids)):
            length = len(row[0].ids)
            if not packs or size + length > self._settings.pack_tokens:
                packs.append([])
                size = 0
            packs[-1].append(row)
            size += length
        lengths = [len(sequence.ids) for sequence, _ in rows]
        pictures = [len(sequence.patches) // 4 + 2 for sequence, _ in rows]
        reads_on = self._module.reads_on
        return Work(
            packs=tuple(LessonPack.of(pack) for pack in packs),
            num_patches=sum(len(sequence.patches) for sequence, _ in rows),
            num_guessed=sum(length - picture for length, picture in zip(lengths, pictures, strict=True))
            if reads_on
            else 0,
            num_tokens=sum(lengths),
            flops=sum(
                count_flops(self._shape, len(sequence.ids) if reads_on else 0, sequence.grids) for sequence, _ in rows
            ),
        )

    def _make_module(self, backbone: Backbone) -> Reader:
        torch.manual_seed(self._settings.seed)
        self._shape = backbone.shape
        module = Reader(backbone, reads_on=self._settings.pages > 0)
        newest = find_newest(Path(self._settings.out))
        if newest is not None:
            module.load_state_dict(read_tensors(newest, "heads"), strict=False)
        module.to(self._ranks.device)
        if not module.reads_on:
            backbone.language_model.requires_grad_(False)
        compute_half(module, self._settings, self._ranks)
        shard(module, list_layers(backbone), self._ranks)
        return module


def count_words(codes: Tensor, pack: LessonPack, choices: Sequence[str]) -> tuple[int, int]:
    """How many words are named rightly, of how many: among the best choices of their cell, as many as words are in it."""
    table = torch.from_numpy(code_words(choices))
    places = {word: place for place, word in enumerate(choices)}
    right = there = 0
    for cell in sorted(set(pack.cells.tolist())):
        words = [pack.words[number] for number in np.flatnonzero(pack.cells.numpy() == cell)]
        wanted = {places[word] for word in words if word in places}
        best = set((table @ codes[cell]).topk(len(set(words))).indices.tolist())
        right, there = right + len(wanted & best), there + len(wanted)
    return right, there


def open_stage(settings: BaseSettings, ranks: Ranks) -> BaseStage:
    """The stage, from the run's newest checkpoint where there is one, else from the model that was named."""
    found = find_start(settings)
    if not settings.documents or not settings.faces:
        raise ConfigError("no pages to read: set documents=FILE and faces=FOLDER, made by moca data corpus")
    shape = read_shape(found.folder / "config.json", read_values(found))
    lessons = LessonSupply(
        documents=Path(settings.documents),
        faces=Path(settings.faces),
        tokenizer=found.file("tokenizer.json"),
        tokens=shape.tokens,
        max_tokens=settings.max_tokens,
        rates=LessonRates(settings.pages, settings.scans, crop_sizes=_read_sizes(settings)),
        seed=settings.seed,
    )
    held_out = None
    if settings.held_out_documents:
        faces = Path(settings.held_out_faces or settings.faces)
        held_out = replace(lessons, documents=Path(settings.held_out_documents), faces=faces, seed=settings.seed + 1)
    return BaseStage(settings, found, ranks, lessons, held_out)


def _read_sizes(settings: BaseSettings) -> tuple[float, float]:
    sizes = settings.crop_sizes
    if len(sizes) != 2 or not 4 <= sizes[0] <= sizes[1]:
        raise ConfigError(f"crop_sizes={list(sizes)}: give the least and the largest in pixels, as [8, 24]")
    return sizes[0], sizes[1]
