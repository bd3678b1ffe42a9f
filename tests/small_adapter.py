"""Writes a small LoRA folder in the layout that peft writes, without peft."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from moca_rag.checkpoint import Checkpoint, list_weights
from moca_rag.tensors import open_tensors, translate_key

PREFIX = "base_model.model.model."
QUERY = "language_model.layers.0.self_attn.q_proj"
PATCHES = "visual.patch_embed.proj"


def write_adapter(folder: Path, base: Path | str, tensors: dict[str, Tensor], **options: Any) -> Path:
    """Write adapter_config.json (rank 2, alpha 3, changed by the options) and the tensors, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "bias": "none", "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(values | options), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def random_pair(module: str, shape: tuple[int, ...], rank: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """The two factors for a weight of the shape, by their keys in the file."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, *shape[1:], generator=generator)
    b = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator)
    return {f"{PREFIX}{module}.lora_A.weight": a, f"{PREFIX}{module}.lora_B.weight": b}


def stored_tensors(folder: Path) -> dict[str, Tensor]:
    """The encoder's tensors as they lie in a model folder, by today's names."""
    tensors: dict[str, Tensor] = {}
    for path in list_weights(folder):
        with open_tensors(path) as file:
            tensors |= {translate_key(key): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return {name: tensor for name, tensor in tensors.items() if name.startswith(("language_model.", "visual."))}


def bare(folder: Path) -> Checkpoint:
    """The model in a folder, not looked into."""
    return Checkpoint(str(folder), folder, "")
