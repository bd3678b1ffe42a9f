"""Reads a model folder into a backbone that has been proven; the vision tower only when the first image asks for it."""

import torch
from torch import nn

from .backbone import Backbone
from .checkpoint import Checkpoint, read_settings, read_values
from .proof import prove_text, prove_vision
from .shapes import read_shape
from .weights import read_weights


def load_backbone(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Backbone:
    """The encoder in a model folder, bidirectional unless its settings say causal; ModelError where `proof` fails.

    A text query needs the text layers alone, and a language head is never read. The model is built without memory and
    its tensors are put in one by one, so loading never holds it twice.
    """
    shape = read_shape(checkpoint.folder / "config.json", read_values(checkpoint))

    def read_part(name: str, part: nn.Module) -> None:
        expected = {f"{name}.{key}": tensor for key, tensor in part.state_dict().items()}
        weights = read_weights(checkpoint, expected, device, dtype)
        part.load_state_dict({key.removeprefix(f"{name}."): weight for key, weight in weights.items()}, assign=True)

    def read_vision() -> None:
        read_part("visual", backbone.visual)
        prove_vision(backbone)

    with torch.device("meta"):
        backbone = Backbone(shape, causal=read_settings(checkpoint).causal, read_vision=read_vision)
    backbone.eval().requires_grad_(False)
    read_part("language_model", backbone.language_model)
    prove_text(backbone)
    return backbone
