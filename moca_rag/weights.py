"""Reads a model's weights from its safetensors files under today's names, each tensor checked; nothing runs code."""

import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .checkpoint import list_weights
from .errors import ModelError, one_line

# What training leaves beside the encoder: the language head, and the decoder of masked autoencoding.
KNOWN_EXTRAS = ("lm_head.", "mae_decoder.", "mae_proj.")

logger = logging.getLogger(__name__)


def read_weights(
    folder: Path, expected: dict[str, Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Every expected tensor by the base model's name, finite, on the device and in the type asked for.

    `expected` gives the shapes (tensors on the meta device). Published folders use older names, which are
    translated. Raises ModelError on a missing, misshapen or non-finite tensor, or on one too many in the encoder.
    """
    weights: dict[str, Tensor] = {}
    extras: list[str] = []
    for path in list_weights(folder):
        for key, tensor in _read_file(path):
            name = translate_key(key)
            if name not in expected:
                extras.append(key)
                continue
            _check_tensor(key, tensor, expected[name], path)
            weights[name] = tensor.to(device=device, dtype=dtype, copy=True)
    missing = [name for name in expected if name not in weights]
    if missing:
        raise ModelError(
            f"the weights in {folder} lack {missing[0]} ({len(missing)} of {len(expected)} tensors are missing): "
            "copy it whole"
        )
    _check_extras(extras, folder)
    return weights


def translate_key(key: str) -> str:
    """The base model's name of a stored tensor.

    >>> translate_key("model.layers.0.mlp.up_proj.weight"), translate_key("model.visual.merger.ln_q.weight")
    ('language_model.layers.0.mlp.up_proj.weight', 'visual.merger.ln_q.weight')
    """
    name = key.removeprefix("model.")
    if name.startswith(("layers.", "embed_tokens.", "norm.")):
        return "language_model." + name
    return name


def _read_file(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for key in file.keys():  # noqa: SIM118 (the file is no mapping)
                yield key, file.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no whole safetensors file ({one_line(error)}): copy it again") from error


def _check_tensor(key: str, tensor: Tensor, expected: Tensor, path: Path) -> None:
    if tensor.shape != expected.shape:
        raise ModelError(
            f"{path}: {key} has shape {list(tensor.shape)} where config.json asks for {list(expected.shape)}: "
            "weights and config are of different models"
        )
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ModelError(f"{path}: {key} is stored as {tensor.dtype}: only float32, bfloat16 and float16 are read")
    if not all(bool(bound.isfinite()) for bound in tensor.aminmax()):
        raise ModelError(f"{path}: {key} holds NaN or infinite numbers: the training that made it broke")


def _check_extras(extras: list[str], folder: Path) -> None:
    inside = [key for key in extras if translate_key(key).startswith(("visual.", "language_model."))]
    inside = [key for key in inside if not key.endswith("rotary_emb.inv_freq")]
    if inside:
        raise ModelError(
            f"the weights in {folder} hold {inside[0]} ({len(inside)} such), which config.json does not know: "
            "weights and config are of different models"
        )
    unknown = [key for key in extras if not key.removeprefix("model.").startswith(KNOWN_EXTRAS)]
    unknown = [key for key in unknown if not key.endswith("rotary_emb.inv_freq")]
    if unknown:
        logger.warning("%s: passed over %d tensors that no encoder uses, such as %s", folder, len(unknown), unknown[0])
