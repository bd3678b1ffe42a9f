"""Mines hard negatives: documents that rank high for a pair's query, and yet score clearly below what answers it.

The folder that is written holds `cl.parquet`, the pairs with new negatives, and `images.zip` with each image once.
"""

import math
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch

from moca_rag.checkpoint import find_checkpoint, make_card, read_settings
from moca_rag.collection import Collection
from moca_rag.errors import ConfigError
from moca_rag.feed import Feed
from moca_rag.inputs import SequenceBuilder, TokenSequence, check_tokenizer, load_tokenizer
from moca_rag.loader import load_backbone
from moca_rag.progress import Reporter, SilentReporter
from moca_rag.records import Floats, PixelBudget

from .mixture import Mixture
from .pools import CollectionPool, Document, ImageStore, Pool, RowPool
from .row_file import RowFile
from .rows import PairRow, Side, split_parts
from .settings import MiningReport, MiningSettings, Source
from .sources import open_pairs

BLOCK = 256  # queries that are ranked together, in one matrix product


class SideEncoder(Protocol):
    """What mining needs of a model."""

    def prepare(self, side: Side) -> Any:
        """A side, decoded. Raises RowError where it cannot be."""
        ...

    def encode(self, prepared: Iterable[Any]) -> Iterator[Floats]:
        """The unit embeddings of each, in order: [1, D], or [1 + R, D] where those of its regions follow that of the whole.

        Only a few are read ahead.
        """
        ...


class ModelEncoder:
    """A model that reads sides as training does, token for token."""

    def __init__(self, model: str, pixels: PixelBudget | None = None, dimension: int | None = None) -> None:
        """`model` is a folder or hub id; it runs on a GPU where there is one. Raises as `Embedder.open` does."""
        checkpoint = find_checkpoint(model)
        self.card = card = make_card(checkpoint, pixels, dimension)
        has_gpu = torch.cuda.is_available()
        device, dtype = ("cuda", torch.bfloat16) if has_gpu else ("cpu", torch.float32)
        backbone = load_backbone(checkpoint, torch.device(device), dtype)
        tokenizer, tokens = load_tokenizer(checkpoint.file("tokenizer.json")), backbone.shape.tokens
        check_tokenizer(tokenizer, tokens, backbone.shape.text.vocab_size)
        settings = read_settings(checkpoint)
        self._builder = SequenceBuilder(
            tokenizer, tokens, card.pixels, settings.max_tokens, drop_blank=settings.drop_blank, tells=False
        )
        self._feed = Feed(backbone, card.dimension)

    @classmethod
    def of(cls, collection: Collection) -> Self:
        """The model that a collection was made with. Raises ConfigError on a text collection."""
        card = collection.fingerprint.model
        if card is None:
            raise ConfigError(
                f"{collection.path} is a text collection, and a model has to rank: give one made by `moca index --model`"
            )
        encoder = cls(card.name, card.pixels, card.dimension)
        collection.fingerprint.check_model(encoder.card, collection.path)
        return encoder

    def prepare(self, side: Side) -> TokenSequence:
        """A side's tokens and patches, and what of them is pooled: as a query it is one whole, as a document its regions."""
        sequence = self._builder.build(split_parts(side.text, side.images, self.card.pixels), self.card.regions)
        if sequence.weights is None:
            return sequence
        whole = np.ones((1, len(sequence.ids)), np.float32)
        return replace(sequence, weights=np.concatenate([whole, sequence.weights]))

    def encode(self, prepared: Iterable[TokenSequence]) -> Iterator[Floats]:
        """Unit embeddings, packed on the way."""
        return self._feed.run(prepared)


class _Pair(NamedTuple):
    row: dict[str, Any]
    asked: int
    positive: int


def mine_negatives(
    rows: Source,
    out: Path,
    encoder: SideEncoder,
    settings: MiningSettings | None = None,
    reporter: Reporter | None = None,
    collection: Collection | None = None,
) -> MiningReport:
    """Write the pairs anew with negatives, into a folder that appears when it is whole.

    Negatives are pages of the collection, which the encoder has to be of, or without one the rows' own positives.
    A document that any pair has as the answer to the same query is never its negative. Equal rows and model give equal
    files. Raises ConfigError on settings that cannot be used, or where `out` is taken.
    """
    settings, reporter = settings or MiningSettings(), reporter or SilentReporter()
    check_mining(out, settings)
    table = Mixture([open_pairs(replace(rows, negatives=0))], settings.max_bad_rows)
    fresh = Path(os.path.abspath(out))
    fresh = fresh.with_name(f".{fresh.name}.{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        figures = _Run(fresh, table, encoder, settings, reporter).write(collection)
        size = sum(path.stat().st_size for path in fresh.iterdir())
        fresh.replace(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return MiningReport(out, **figures, skipped=table.num_bad, size=size)


class _Run:
    """One run: every distinct side is embedded once, then each pair's query ranks the documents."""

    def __init__(
        self, folder: Path, table: Mixture[PairRow], encoder: SideEncoder, settings: MiningSettings, reporter: Reporter
    ) -> None:
        self._folder, self._table, self._encoder = folder, table, encoder
        self._settings, self._reporter = settings, reporter
        self._places: dict[int, int] = {}  # embeddings by the key of their side
        self._documents: dict[int, Document] = {}
        self._pairs: list[_Pair] = []
        self._answers: defaultdict[int, set[int]] = defaultdict(set)

    def write(self, collection: Collection | None) -> dict[str, int]:
        """The files; what was counted."""
        with ImageStore(self._folder / "images.zip") as images, RowFile(self._folder / "cl.parquet", "cl") as file:
            self._reporter.start("pairs", len(self._table))
            embeddings = list(self._encoder.encode(self._read(images)))
            documents = list(self._documents.values())
            pool: Pool = RowPool(documents, [_regions(embeddings[self._places[one.key]]) for one in documents])
            if collection is not None:
                pool = CollectionPool(collection, images)
            found = [len(negatives) for negatives in self._mine(pool, embeddings, file)]
        wanted = self._settings.negatives
        return {
            "rows": len(found),
            "documents": len(pool),
            "negatives": sum(found),
            "short": sum(number < wanted for number in found),
        }

    def _read(self, images: ImageStore) -> Iterator[Any]:
        """The sides that were not seen before, decoded; their pairs are noted."""
        for number in range(len(self._table)):
            taken = self._table.take(number, self._prepare)
            self._reporter.advance("pairs")
            if taken is None:
                continue
            row, fresh = taken
            asked, query, positive = row.asked.key, images.keep(row.query), images.keep(row.positive)
            self._documents.setdefault(positive.key, positive)
            self._answers[asked].add(positive.key)
            values: dict[str, Any] = {"task": row.task, "instruction": row.instruction}
            for name, side in (("query", query), ("positive", positive)):
                values |= {f"{name}_text": side.text, f"{name}_images": side.images}
            self._pairs.append(_Pair(values, asked, positive.key))
            for key, prepared in fresh.items():
                self._places[key] = len(self._places)
                yield prepared
        if not self._pairs:
            raise ConfigError("none of the rows can be read: nothing to mine")

    def _prepare(self, row: PairRow) -> tuple[PairRow, dict[int, Any]]:
        sides = {side.key: side for side in (row.asked, row.positive)}
        return row, {key: self._encoder.prepare(side) for key, side in sides.items() if key not in self._places}

    def _mine(self, pool: Pool, embeddings: Sequence[Floats], file: RowFile) -> Iterator[list[Document]]:
        """The negatives of each pair, written with it."""
        settings = self._settings
        self._reporter.start("queries", len(self._pairs))
        for start in range(0, len(self._pairs), BLOCK):
            pairs = self._pairs[start : start + BLOCK]
            asked = np.stack([embeddings[self._places[pair.asked]][0] for pair in pairs])
            ranked_lists = pool.rank(asked, settings.depth)
            for pair, query, (numbers, scores) in zip(pairs, asked, ranked_lists, strict=True):
                limit = (_regions(embeddings[self._places[pair.positive]]) @ query).max() - settings.margin
                barred = self._answers[pair.asked] | {pair.asked}
                ranked = (pool.fetch(number) for number in numbers[scores <= limit].tolist())
                fitting = (document for document in ranked if document.key not in barred)
                negatives = list(islice(fitting, settings.negatives))
                texts, images = [document.text for document in negatives], [document.images for document in negatives]
                file.add({**pair.row, "negative_texts": texts, "negative_images": images})
                self._reporter.advance("queries")
                yield negatives


def _regions(rows: Floats) -> Floats:
    """What a document is found by, of the embeddings of a side."""
    return rows[1:] if len(rows) > 1 else rows


def check_mining(out: Path, settings: MiningSettings) -> None:
    """Raises ConfigError on a place that is taken, or on settings that cannot be used."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is there already: give a folder that is new or empty")
    for name in ("negatives", "depth"):
        if getattr(settings, name) < 1:
            raise ConfigError(f"{name} is {getattr(settings, name)}: give 1 or more")
    if not math.isfinite(settings.margin) or settings.margin < 0:
        raise ConfigError(f"margin is {settings.margin}: give a difference of cosines, 0 or above")
