"""Reads single tensors from safetensors files, under today's names and checked; nothing here runs a file's code or loads torch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError, safe_open

from .errors import ModelError, one_line

if TYPE_CHECKING:
    from torch import Tensor

# The encoder's two parts, each read on its own: a query that is text needs the first one only.
PARTS = ("language_model.", "visual.")
# What training leaves beside the encoder: the language head, and the decoder of masked autoencoding.
KNOWN_EXTRAS = ("lm_head.", "mae_decoder.", "mae_proj.")
READ_TYPES = ("torch.float32", "torch.bfloat16", "torch.float16")


@contextmanager
def open_tensors(path: Path, framework: Literal["pt", "numpy"] = "pt") -> Iterator[Any]:
    """An open safetensors file, of which `get_tensor` reads one tensor; raises ModelError where it is not whole."""
    try:
        with safe_open(path, framework=framework, device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no whole safetensors file ({one_line(error)}): copy it again") from error


def translate_key(key: str) -> str:
    """The base model's name of a stored tensor.

    >>> translate_key("model.layers.0.mlp.up_proj.weight"), translate_key("model.visual.merger.ln_q.weight")
    ('language_model.layers.0.mlp.up_proj.weight', 'visual.merger.ln_q.weight')
    """
    name = key.removeprefix("model.")
    if name.startswith(("layers.", "embed_tokens.", "norm.")):
        return "language_model." + name
    return name


def asked_parts(expected: Iterable[str]) -> tuple[str, ...]:
    """The parts that the names begin with."""
    return tuple(part for part in PARTS if any(name.startswith(part) for name in expected))


def check_tensor(key: str, tensor: "Tensor", shape: tuple[int, ...], path: Path, asked_by: str = "config.json") -> None:
    """Raises ModelError unless the tensor has the shape, a number type that is read, and finite numbers only."""
    if tensor.shape != shape:
        raise ModelError(
            f"{path}: {key} has shape {list(tensor.shape)} where {asked_by} asks for {list(shape)}: "
            "weights and config are of different models"
        )
    if str(tensor.dtype) not in READ_TYPES:
        raise ModelError(f"{path}: {key} is stored as {tensor.dtype}: only float32, bfloat16 and float16 are read")
    if tensor.numel() and not all(bool(bound.isfinite()) for bound in tensor.aminmax()):
        raise ModelError(f"{path}: {key} holds NaN or infinite numbers: the training that made it broke")
