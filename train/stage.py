"""What both stages do with a model: load it to be trained, put it into a folder, keep sharded ranks in step."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as run_again

from moca_rag.backbone import Backbone
from moca_rag.checkpoint import Checkpoint, ModelSettings, find_checkpoint, read_settings, read_values
from moca_rag.errors import ConfigError
from moca_rag.inputs import BLOCK, TokenSequence
from moca_rag.loader import load_backbone
from moca_rag.memory import keep_memory
from moca_rag.pixels import Grid, patchify
from moca_rag.shapes import ModelShape

from .checkpoints import find_newest
from .corruption import CorruptedRow
from .ranks import Ranks
from .settings import RunSettings


def find_start(settings: RunSettings, *, afresh: bool = False) -> Checkpoint:
    """The run's newest checkpoint where there is one, unless `afresh`; else the model that was named.

    Raises ConfigError where none was.
    """
    if not settings.model:
        raise ConfigError(
            "no model to start from: set model=FOLDER_OR_HUB_ID (moca model new makes one out of nothing)"
        )
    newest = None if afresh else find_newest(Path(settings.out))
    return find_checkpoint(settings.model if newest is None else str(newest.folder))


def load_trainable(checkpoint: Checkpoint, settings: RunSettings, ranks: Ranks) -> Backbone:
    """The whole model in float32, every weight of it to be trained, in the direction that the settings ask for."""
    backbone = load_backbone(checkpoint, ranks.device, torch.float32)
    backbone.load_vision()
    backbone.causal = not settings.bidirectional
    if ranks.device.type == "cpu":
        keep_memory(all_of_it=True)
    if settings.recompute:
        for layer in list_layers(backbone):
            layer.forward = partial(run_again, layer.forward, use_reentrant=False)
    backbone.requires_grad_().train()
    freeze(backbone, settings.frozen)
    return backbone


def freeze(backbone: Backbone, patterns: Sequence[str]) -> None:
    """Leave the weights that a pattern names as they are. Raises ConfigError where one names none."""
    named = dict(backbone.named_parameters())
    for pattern in patterns:
        found = fnmatch.filter(named, pattern)
        if not found:
            raise ConfigError(f"frozen names {pattern!r}, and no weight is called so: try visual.* or language_model.*")
        for name in found:
            named[name].requires_grad_(False)


def compute_half(module: nn.Module, settings: RunSettings, ranks: Ranks) -> None:
    """Let a module's products run in bfloat16 on a CPU, if it is asked for; weights and sums stay in float32."""
    if settings.half and ranks.device.type == "cpu":
        module.forward = torch.autocast("cpu", torch.bfloat16)(module.forward)


def list_layers(backbone: Backbone) -> list[nn.Module]:
    """The layers of both parts: what is sharded, and recomputed, one by one."""
    return [*backbone.visual.blocks, *backbone.language_model.layers]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a model folder holds beside weights, read at once: the checkpoint that a run goes on from is dropped later on."""

    values: dict[str, Any]
    tokenizer: bytes
    settings: ModelSettings

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """That of a model on this machine."""
        tokenizer = checkpoint.file("tokenizer.json").read_bytes()
        return cls(read_values(checkpoint), tokenizer, read_settings(checkpoint))


def write_model(folder: Path, weights: Mapping[str, Tensor], frame: Frame, settings: RunSettings) -> None:
    """A plain model folder of these weights, with everything else from the model that training began with."""
    from moca_rag.export import make_config, write_plain  # transformers, seconds to import, is needed here only

    causal = not settings.bidirectional
    config = make_config(frame.values, "float32", causal=causal)
    settled = replace(frame.settings, causal=causal)
    write_plain(folder, config, dict(weights), frame.tokenizer, settled, settings.file_mb * 10**6)


def make_padding(shape: ModelShape) -> CorruptedRow:
    """A picture of one token whose losses do not count: sharded ranks must run every layer together."""
    tokens = shape.tokens
    ids = np.array([tokens.start, tokens.pad, tokens.end], np.int64)
    patches = patchify(np.zeros((BLOCK, BLOCK, 3), np.uint8))
    none = np.zeros(0, np.int64)
    sequence = TokenSequence(ids, np.tile(np.arange(3), (3, 1)), patches, (Grid(2, 2),))
    return CorruptedRow(sequence, none, none, np.zeros(1, np.int64), 0)
