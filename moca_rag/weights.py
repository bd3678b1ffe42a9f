"""Reads a model's weights, part by part, from its safetensors files under today's names; an adapter is merged in."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from .adapters import read_adapter
from .checkpoint import Checkpoint, list_weights
from .errors import ModelError
from .tensors import KNOWN_EXTRAS, PARTS, asked_parts, check_tensor, open_tensors, translate_key

# Some old folders hold the rotary tables, which follow from the config.
TABLES = "rotary_emb.inv_freq"

HEAD = "lm_head.weight"

logger = logging.getLogger(__name__)


def read_weights(
    checkpoint: Checkpoint, expected: dict[str, Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Every expected tensor by the base model's name, finite, on the device and in the type asked for.

    `expected` gives the shapes (tensors on the meta device) of the `language_model.` part, of `visual.`, or of both;
    of a part that is not asked for no byte is read. Published folders use older names, which are translated.
    Raises ModelError on a missing, misshapen or non-finite tensor, or on one too many in a part that is read.
    """
    changes = read_adapter(checkpoint.adapter, expected) if checkpoint.adapter else {}
    weights: dict[str, Tensor] = {}
    extras: list[str] = []
    for path in list_weights(checkpoint.folder):
        with open_tensors(path) as file:
            for key in file.keys():  # noqa: SIM118 (the file is no mapping)
                name = translate_key(key)
                if name not in expected:
                    extras.append(key)
                    continue
                tensor = file.get_tensor(key)
                check_tensor(key, tensor, expected[name].shape, path)
                if name in changes:
                    tensor = changes[name](tensor.to(device, torch.float32))
                # A copy even where nothing changes: what is read is a map of a file that others may replace.
                weights[name] = tensor.to(device, dtype, copy=True)
    missing = [name for name in expected if name not in weights]
    if missing:
        raise ModelError(
            f"the weights in {checkpoint.folder} lack {missing[0]} ({len(missing)} of {len(expected)} tensors are "
            "missing): copy it whole"
        )
    _check_extras(extras, checkpoint.folder, expected)
    return weights


def _check_extras(extras: list[str], folder: Path, expected: dict[str, Tensor]) -> None:
    asked = asked_parts(expected)
    extras = [key for key in extras if not key.endswith(TABLES)]
    inside = [key for key in extras if translate_key(key).startswith(asked)]
    if inside:
        raise ModelError(
            f"the weights in {folder} hold {inside[0]} ({len(inside)} such), which config.json does not know: "
            "weights and config are of different models"
        )
    unknown = [key for key in extras if not translate_key(key).startswith(PARTS + KNOWN_EXTRAS)]
    # Said once a model: every use reads the text layers, and the tower is read after them.
    if unknown and PARTS[0] in asked:
        logger.warning("%s: passed over %d tensors that no encoder uses, such as %s", folder, len(unknown), unknown[0])


def find_head(checkpoint: Checkpoint) -> Path | None:
    """The file that holds a language head of the model's own; None where there is none, as in a tied model."""
    for path in list_weights(checkpoint.folder):
        with open_tensors(path) as file:
            if HEAD in file.keys():  # noqa: SIM118 (the file is no mapping)
                return path
    return None
