"""Turns page images and queries into unit embeddings: a Qwen2.5-VL model in MoCa's way, on CPU or GPU."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from .checkpoint import find_checkpoint, make_card, read_settings
from .errors import ConfigError
from .feed import Feed
from .inputs import SequenceBuilder, TokenSequence, check_tokenizer, load_tokenizer
from .loader import load_backbone
from .precision import Precision, convert_embeddings
from .records import Box, Explanation, ModelCard, Part, PixelBudget, Pixels, Query
from .regions import split_score, weigh_regions


class Embedder:
    """The encoder of a collection: what `records.Encoder` asks for, from a model on this machine."""

    def __init__(self, feed: Feed, builder: SequenceBuilder, card: ModelCard) -> None:
        self._feed = feed
        self._builder = builder
        self._card = card

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        pixels: PixelBudget | None = None,
        dimension: int | None = None,
        token_budget: int | None = None,
    ) -> Self:
        """Open a model: a local folder, or a hub id, whose local copy is tried before the network.

        `device` is a torch device (default: a GPU where there is one), `dtype` what it computes in (bfloat16 on a GPU,
        float32 on a CPU), `pixels` overrides the model's own budget, `dimension` cuts embeddings to their first numbers
        (for models trained for it), `token_budget` limits the tokens of one forward pass. Raises ModelError when the
        model cannot be found, loaded or trusted, ConfigError on a device or size that cannot be used.
        """
        place = _find_device(device)
        checkpoint = find_checkpoint(model)
        card = make_card(checkpoint, pixels, dimension)
        tokenizer = load_tokenizer(checkpoint.file("tokenizer.json"))
        backbone = load_backbone(
            checkpoint, place, dtype or (torch.bfloat16 if place.type == "cuda" else torch.float32)
        )
        check_tokenizer(tokenizer, backbone.shape.tokens, backbone.shape.text.vocab_size)
        settings = read_settings(checkpoint)
        builder = SequenceBuilder(
            tokenizer, backbone.shape.tokens, card.pixels, settings.max_tokens, drop_blank=settings.drop_blank
        )
        builder.check_room(_page_text(card))
        return cls(Feed(backbone, card.dimension, token_budget), builder, card)

    @property
    def card(self) -> ModelCard:
        """What decides its embeddings."""
        return self._card

    def encode_queries(self, queries: Sequence[Query], *, precision: Precision = "float32") -> NDArray[Any]:
        """Unit embeddings [N, D] of queries: a text is read bare, a picture stands before its text.

        See `convert_embeddings` for the precisions. Raises ConfigError on a query with neither, or on a picture that is
        not uint8 RGB.
        """
        rows = list(self._feed.run(self._builder.build(self._query_parts(query)) for query in queries))
        embeddings = np.concatenate(rows) if rows else np.zeros((0, self._card.dimension), np.float32)
        return convert_embeddings(embeddings, precision)

    def encode_pages(self, parts: Iterable[Part], *, precision: Precision = "float32") -> Iterator[NDArray[Any]]:
        """A unit embedding [D] a page image [H, W, 3] or passage of text, in order; it reads one or two packs ahead.

        A model of several regions has one of each for an image, [R, D], from the one forward pass; see `weigh_runs`.
        An image at its `smart_resize` size is taken as it is, any other is resized to it; a passage is read bare. Images
        and passages share packs. Raises ModelError where a single page does not fit into memory, ConfigError on a
        passage without a sign.
        """
        for rows in self._feed.run(map(self._part_sequence, parts)):
            yield convert_embeddings(rows if len(rows) > 1 else rows[0], precision)

    def encode_regions(
        self, pages: Iterable[tuple[Pixels, Sequence[Box]]], *, precision: Precision = "float32"
    ) -> Iterator[NDArray[Any]]:
        """Unit embeddings [R, D] of the boxes on each page image, from the page's one forward pass (late chunking).

        A box over the whole page gives the page's own embedding; `make_grid` makes boxes. See `weigh_regions`. Raises
        ConfigError on a causal model, as does `explain`.
        """
        self._check_mean()
        for rows in self._feed.run(self._region_sequence(image, boxes) for image, boxes in pages):
            yield convert_embeddings(rows, precision)

    def explain(self, query: Query, image: Pixels) -> Explanation:
        """Which visual tokens of a page image make its score for the query: exact shares that add up to the cosine."""
        self._check_mean()
        sequence = self._page_sequence(image)
        states = self._feed.states(sequence)[:, : self._card.dimension]
        [embedding] = self.encode_queries([query])
        is_image = sequence.ids == self._builder.tokens.pad
        return split_score(embedding, states, is_image, sequence.grids[0], sequence.weights)

    def _check_mean(self) -> None:
        if self._card.pooling != "mean":
            raise ConfigError(
                f"{self._card.name} is causal: its last token alone is the embedding, which has no parts; "
                "regions and shares need a bidirectional model"
            )

    def _part_sequence(self, part: Part) -> TokenSequence:
        if not isinstance(part, str):
            return self._page_sequence(part)
        if not part.strip():
            raise ConfigError("an empty passage cannot be embedded: leave it out")
        return self._builder.build([part])

    def _page_sequence(self, image: Pixels) -> TokenSequence:
        text = _page_text(self._card)
        return self._builder.build([image, text] if text else [image], self._card.regions)

    def _region_sequence(self, image: Pixels, boxes: Sequence[Box]) -> TokenSequence:
        sequence = self._page_sequence(image)
        weights = weigh_regions(sequence.ids == self._builder.tokens.pad, sequence.grids[0], boxes)
        return replace(sequence, weights=weights)

    def _query_parts(self, query: Query) -> list[str | Pixels]:
        text = self._card.query_prompt + query.text if query.text.strip() else ""
        if query.image is None and not text:
            raise ConfigError("an empty query cannot be embedded: give it a text, a picture, or both")
        if query.image is None:
            return [text]
        return [query.image, "\n" + text] if text else [query.image]


def _page_text(card: ModelCard) -> str:
    """What follows a page's image."""
    return "\n" + card.page_prompt if card.page_prompt else ""


def _find_device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"the device {name!r} cannot be used here: give 'cpu', or 'cuda' where torch sees a GPU"
        ) from error
    return device
