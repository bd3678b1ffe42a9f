"""What a teacher of sentences adds to stage two: texts learn to lie to each other as it sees them, and where it puts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from moca_rag.backbone import Backbone
from moca_rag.errors import ConfigError
from moca_rag.inputs import TokenSequence
from moca_rag.records import Ids

from .contrast import distil
from .gradcache import gather_with_grad
from .meanings import Meanings, pull, read_table
from .mixture import Mixture
from .readers import Pair, PairReader
from .rows import PairRow
from .settings import ClSettings
from .teacher import Teacher

FITTED_ROWS = 1024  # of each task of texts, the first ones


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """A batch's texts as the teacher embeds them [N, E], and where they should lie therefore [N, D], if they are pulled."""

    embeddings: Tensor
    places: Tensor | None


class Tutor:
    """A teacher, and the turn of its embeddings into the model's own space where `teacher_pull` asks for it."""

    def __init__(self, teacher: Teacher, settings: ClSettings, meanings: Meanings | None) -> None:
        """See `open`."""
        self._teacher, self._settings, self._meanings = teacher, settings, meanings

    @classmethod
    def open(cls, settings: ClSettings, backbone: Backbone, rows: Mixture[PairRow], reader: PairReader) -> Self | None:
        """None where the settings name no teacher. Raises ConfigError where there is nothing to pull, or to pull to."""
        if not settings.teacher:
            if settings.teacher_pull:
                raise ConfigError("teacher_pull needs a teacher: set teacher=FOLDER, a model of sentence-transformers")
            return None
        table = read_table(backbone) if settings.teacher_pull else None
        teacher = Teacher.open(Path(settings.teacher), half=settings.half)
        if table is None:
            return cls(teacher, settings, None)
        ids, texts = _read_texts(rows, reader)
        return cls(teacher, settings, Meanings.fit(table, ids, teacher.encode(texts)))

    def ask(self, pairs: Sequence[Pair], sequences: Sequence[TokenSequence]) -> Told | None:
        """What is told of all queries, then of all documents; None where pictures are among them."""
        if not all(pair[3] for pair in pairs):
            return None
        every = [text for asked, _, _, texts in pairs for text in texts[: len(asked)]]
        every += [text for asked, _, _, texts in pairs for text in texts[len(asked) :]]
        told = self._teacher.encode(every) if every else np.zeros((0, self._teacher.dimension), np.float32)
        places = None if self._meanings is None else self._meanings.place([one.ids for one in sequences], told)
        return Told(torch.from_numpy(told), places)

    def teach(self, rows: Tensor, told: Told) -> tuple[Tensor, dict[str, float]]:
        """The loss over the global batch's texts, from this rank's embeddings [N, D], and its parts."""
        rows = gather_with_grad(rows)
        loss = distil(rows, gather_with_grad(told.embeddings.to(rows.device)))
        total, figures = self._settings.teacher_weight * loss, {"teacher_loss": loss.item()}
        if told.places is not None:
            distance = pull(rows, gather_with_grad(told.places.to(rows.device)))
            total, figures["teacher_distance"] = total + self._settings.teacher_pull * distance, distance.item()
        return total, figures


def _read_texts(rows: Mixture[PairRow], reader: PairReader) -> tuple[list[Ids], list[str]]:
    """The first texts of every task that has no pictures, and their tokens."""
    ids: list[Ids] = []
    texts: list[str] = []
    for numbers in rows.group_tasks().values():
        for number in numbers[:FITTED_ROWS]:
            pair = rows.take(number, reader.encode)
            if pair is not None and not pair[3]:
                break
            if pair is not None:
                ids += [sequence.ids for sequence in (*pair[0], *pair[1])]
                texts += pair[3]
    if not texts:
        raise ConfigError("teacher_pull needs texts in the data: add a source of format passages or lines")
    return ids, texts
