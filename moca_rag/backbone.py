"""Turns packs of tokens and patches into states: Qwen2.5-VL as a bidirectional encoder, or left causal to compare."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .attention import Segments
from .inputs import Pack
from .language import LanguageModel
from .records import Ids, Pixels
from .shapes import ModelShape
from .vision import VisionTower


class Backbone(nn.Module):
    """A Qwen2.5-VL model without its language head; every sequence of a pack sees itself and nothing else.

    Its tensors have the names of the published folders: `language_model.layers.0...`, `visual.blocks.0...`.
    """

    def __init__(
        self, shape: ModelShape, *, causal: bool = False, read_vision: Callable[[], None] | None = None
    ) -> None:
        """A `causal` model's tokens see only what stands before them, and its last state is the embedding.

        `read_vision`, where it is given, fills the vision tower before its first use; it may raise ModelError.
        """
        super().__init__()
        self.shape = shape
        self.causal = causal
        self.language_model = LanguageModel(shape.text)
        self.visual = VisionTower(shape.vision)
        self._read_vision = read_vision

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        device: torch.device = self.language_model.embed_tokens.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The number type it computes in."""
        dtype: torch.dtype = self.language_model.embed_tokens.weight.dtype
        return dtype

    def forward(self, pack: Pack, rows: Tensor | None = None) -> Tensor:
        """Final-norm states [T, D] of a pack's tokens, text and image alike (MoCa, section 2.1).

        `rows` are normalised `pixel_values` [P, 1176] that stand in for the pack's own patches, such as noised ones.
        """
        if not pack.grids:
            return self.read_on(pack, None)
        self.load_vision()
        return self.read_on(pack, self.visual(self._send(pack.patches) if rows is None else rows, pack.grids))

    def read_on(self, pack: Pack, image: Tensor | None) -> Tensor:
        """Final-norm states [T, D] of a pack, given the visual tokens [M, D] of its images."""
        embeds = self.language_model.embed_tokens(self._send(pack.ids))
        if image is not None:
            slots = self._send(np.flatnonzero(pack.ids == self.shape.tokens.pad))
            embeds = embeds.index_copy(0, slots, image.to(embeds.dtype))
        segments = Segments.of(pack.lengths, self.device)
        states: Tensor = self.language_model(embeds, self._send(pack.positions), segments, self.causal)
        return states

    def load_vision(self) -> None:
        """Fill the vision tower where that was put off; the first image does it by itself."""
        if self._read_vision is not None:
            read, self._read_vision = self._read_vision, None  # reading it runs it, to prove it
            try:
                read()
            except BaseException:
                self._read_vision = read
                raise

    def _send(self, array: Ids | Pixels) -> Tensor:
        """The array on the device; towards a GPU the host does not wait for the copy."""
        tensor = torch.from_numpy(array)
        if self.device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)
