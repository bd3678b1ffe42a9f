"""Turns page images and queries into unit embeddings: a Qwen2.5-VL model in MoCa's way, on CPU or GPU."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from .backbone import Backbone, load_backbone
from .checkpoint import find_checkpoint, make_card
from .errors import ConfigError, ModelError
from .inputs import Pack, SequenceBuilder, TokenSequence, batch_sequences, check_tokenizer, load_tokenizer
from .pooling import mean_pool
from .records import Floats, ModelCard, PixelBudget, Pixels, Query

# A GPU is busy from about sixteen pages on; a CPU gains nothing from more than two at once.
CUDA_TOKENS = 16_384
CPU_TOKENS = 2048


class Embedder:
    """The encoder of a collection: what `records.Encoder` asks for, from a model on this machine."""

    def __init__(self, backbone: Backbone, builder: SequenceBuilder, card: ModelCard, token_budget: int) -> None:
        self._backbone = backbone
        self._builder = builder
        self._card = card
        self._token_budget = token_budget

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        device: str | None = None,
        pixels: PixelBudget | None = None,
        token_budget: int | None = None,
    ) -> Self:
        """Open a model: a local folder, or a hub id, whose local copy is tried before the network.

        `device` is a torch device (default: a GPU where there is one), `pixels` overrides the model's own budget,
        `token_budget` limits the tokens of one forward pass. Raises ModelError when the model cannot be found,
        loaded or trusted, ConfigError on a device or budget that cannot be used.
        """
        place = _find_device(device)
        checkpoint = find_checkpoint(model)
        card = make_card(checkpoint, pixels)
        tokenizer = load_tokenizer(checkpoint.folder)
        backbone = load_backbone(checkpoint.folder, place, torch.bfloat16 if place.type == "cuda" else torch.float32)
        check_tokenizer(tokenizer, backbone.vision_tokens, backbone.num_tokens)
        builder = SequenceBuilder(tokenizer, backbone.vision_tokens, card.pixels)
        return cls(backbone, builder, card, token_budget or (CUDA_TOKENS if place.type == "cuda" else CPU_TOKENS))

    @property
    def card(self) -> ModelCard:
        """What decides its embeddings."""
        return self._card

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """Unit embeddings [N, D] of queries: a text is read bare, a picture stands before its text.

        Raises ConfigError on a query with neither, or on a picture that is not uint8 RGB.
        """
        rows = list(self._embed(self._builder.build(self._query_parts(query)) for query in queries))
        return np.stack(rows) if rows else np.zeros((0, self._card.dimension), np.float32)

    def encode_pages(self, images: Iterable[Pixels]) -> Iterator[Floats]:
        """One unit embedding [D] a page image [H, W, 3], in order; it reads one batch of images ahead.

        An image at its `smart_resize` size is taken as it is, any other is resized to it.
        """
        text = "\n" + self._card.page_prompt if self._card.page_prompt else ""
        return self._embed(self._builder.build([image, text] if text else [image]) for image in images)

    def _query_parts(self, query: Query) -> list[str | Pixels]:
        text = self._card.query_prompt + query.text if query.text.strip() else ""
        if query.image is None and not text:
            raise ConfigError("an empty query cannot be embedded: give it a text, a picture, or both")
        if query.image is None:
            return [text]
        return [query.image, "\n" + text] if text else [query.image]

    def _embed(self, sequences: Iterable[TokenSequence]) -> Iterator[Floats]:
        for batch in batch_sequences(sequences, self._token_budget):
            pack = Pack.of(batch)
            with torch.inference_mode():
                embeddings = mean_pool(self._backbone.encode(pack), pack.lengths).cpu()
            if not bool(embeddings.isfinite().all()):
                raise ModelError(
                    f"the model {self._card.name} gave an embedding that is not finite: open it on the CPU"
                )
            yield from embeddings.numpy()


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
