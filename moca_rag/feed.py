"""Feeds token sequences to a backbone in packs as large as the device likes, and hands their embeddings out in order."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .backbone import Backbone
from .errors import ModelError
from .inputs import Pack, TokenSequence
from .memory import keep_memory
from .pixels import PATCHES_PER_TOKEN
from .pooling import pool_regions
from .records import Floats
from .shapes import ModelShape

# A GPU is busy from about sixteen pages on; a CPU is fastest page by page, out of its cache (benchmarks/encode.py).
CUDA_TOKENS = 16_384
CPU_TOKENS = 1024
MEMORY_SHARE = 0.5  # of what is free: the estimate leaves out the kernels' own work space


class Feed:
    """Runs one backbone. A pack that does not fit into memory is halved, and so is every pack after it."""

    def __init__(self, backbone: Backbone, dimension: int, token_budget: int | None = None) -> None:
        """Embeddings are cut to `dimension` numbers; without a budget the device's own is found at the first pack."""
        self.backbone = backbone
        self._dimension = dimension
        self._token_budget = token_budget
        if backbone.device.type == "cpu":
            keep_memory()

    @property
    def token_budget(self) -> int:
        """The most tokens of one pack."""
        if self._token_budget is None:
            self._token_budget = find_token_budget(self.backbone)
        return self._token_budget

    def run(self, sequences: Iterable[TokenSequence]) -> Iterator[Floats]:
        """The unit embeddings of each sequence in order: [R, D], one row but for a sequence with weights of its own.

        Sequences are read lazily, a pack at a time. While a GPU computes one pack, the next is read and sent, and the
        results of the one before are taken by the caller; at most two packs are under way.
        """
        waiting: list[Tensor] = []
        for batch in self._batches(sequences):
            started = self._start(batch)
            if self.backbone.device.type == "cuda":
                waiting, started = started, waiting
            yield from self._finish(started)
        yield from self._finish(waiting)

    def states(self, sequence: TokenSequence) -> Floats:
        """The final states [L, D] of one sequence."""
        with torch.inference_mode():
            states: Floats = self.backbone(Pack.of([sequence])).float().cpu().numpy()
        return states

    def _batches(self, sequences: Iterable[TokenSequence]) -> Iterator[list[TokenSequence]]:
        """Batches within the budget, which may shrink meanwhile; a longer sequence stands alone."""
        batch: list[TokenSequence] = []
        num_tokens = 0
        for sequence in sequences:
            if batch and num_tokens + len(sequence.ids) > self.token_budget:
                yield batch
                batch, num_tokens = [], 0
            batch.append(sequence)
            num_tokens += len(sequence.ids)
        if batch:
            yield batch

    def _start(self, batch: list[TokenSequence]) -> list[Tensor]:
        """The embeddings of each sequence, on the device and perhaps still being computed."""
        try:
            return self._embed(batch)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        if len(batch) == 1:
            raise ModelError(
                f"a page of {len(batch[0].ids):,} tokens does not fit into memory ({reason}): "
                "give fewer --pixels, a smaller model, or a device with more memory"
            )
        if self.backbone.device.type == "cuda":
            torch.cuda.empty_cache()
        self._token_budget = max(1, sum(len(sequence.ids) for sequence in batch) // 2)
        middle = len(batch) // 2
        return self._start(batch[:middle]) + self._start(batch[middle:])

    @torch.inference_mode()
    def _embed(self, batch: Sequence[TokenSequence]) -> list[Tensor]:
        pack = Pack.of(batch)
        states = self.backbone(pack)[:, : self._dimension]
        weights = [sequence.weights for sequence in batch]
        return pool_regions(states, pack.lengths, weights, causal=self.backbone.causal)

    def _finish(self, embeddings: Sequence[Tensor]) -> Iterator[Floats]:
        if not embeddings:
            return
        rows = torch.cat(list(embeddings)).cpu().numpy()
        if not np.isfinite(rows).all():
            raise ModelError("the model gave an embedding that is not finite: open it on the CPU")
        yield from np.split(rows, np.cumsum([len(part) for part in embeddings])[:-1])


def find_token_budget(backbone: Backbone) -> int:
    """The tokens of one pack that keep this device busy and fit into its memory, by an estimate of what a token needs."""
    if backbone.device.type != "cuda":
        return CPU_TOKENS
    free, _ = torch.cuda.mem_get_info(backbone.device)
    return min(CUDA_TOKENS, math.floor(MEMORY_SHARE * free / token_bytes(backbone.shape)))


def token_bytes(shape: ModelShape) -> int:
    """About how many bytes of activations a visual token needs at its layer's peak: states, projections, the wide MLP.

    >>> from moca_rag.shapes import TextShape, VisionShape, VisionTokens
    >>> shape = ModelShape(TextShape(hidden_size=64, intermediate_size=128), VisionShape(), VisionTokens(1, 2, 3))
    >>> token_bytes(shape) > 2 * PATCHES_PER_TOKEN * 3420
    True
    """
    tower = PATCHES_PER_TOKEN * (8 * shape.vision.hidden_size + 3 * shape.vision.intermediate_size)
    layers = 8 * shape.text.hidden_size + 3 * shape.text.intermediate_size
    return 4 * max(tower, layers)  # half of them in float32: rotations, norms


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
