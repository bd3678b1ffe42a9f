"""Fine-tunes few numbers instead of all: frozen linear layers, each with a trained product of low rank beside it (LoRA)."""

import json
import math
import shutil
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from moca_rag.checkpoint import ADAPTER_FILE, SETTINGS_FILE, Checkpoint
from moca_rag.errors import ConfigError
from moca_rag.products import Linear, linear

from .settings import ClSettings

FACTORS = ("lora_A", "lora_B")
# peft's names of the layers of Qwen2_5_VLForConditionalGeneration, the class that published folders are opened with.
PEFT_PREFIX = "base_model.model.model."


class LoraLinear(Linear):
    """A frozen layer W and what is learnt of it: W + scale * B @ A (Hu et al., 2021, section 4.1)."""

    def __init__(self, layer: nn.Linear, rank: int, scale: float, generator: torch.Generator) -> None:
        """Takes the layer's own tensors. B starts at zero, so nothing changes before the first step; A as in peft."""
        with torch.device("meta"):
            super().__init__(layer.in_features, layer.out_features, layer.bias is not None)
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = scale
        # Drawn on the CPU: every device and every rank begins with the same numbers.
        bound = 1 / math.sqrt(layer.in_features)
        a = torch.empty(rank, layer.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(a.to(layer.weight.device))
        self.lora_B = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))

    def forward(self, states: Tensor) -> Tensor:
        """The product of the whole, without ever making the sum of the weights."""
        return super().forward(states) + self.scale * linear(linear(states, self.lora_A), self.lora_B)


def add_lora(backbone: nn.Module, settings: ClSettings) -> None:
    """Freeze the model and put factors beside the linear layers that `lora_targets` names.

    Raises ConfigError on a rank, alpha or target that cannot be used.
    """
    if settings.lora_rank < 1 or not 0 < settings.lora_alpha < math.inf:
        raise ConfigError(
            f"lora_rank={settings.lora_rank} and lora_alpha={settings.lora_alpha} cannot be used: give numbers above 0"
        )
    backbone.requires_grad_(False)
    layers = {name: layer for name, layer in backbone.named_modules() if isinstance(layer, Linear)}
    for target in settings.lora_targets or ("",):
        if not any(fnmatchcase(name, target) for name in layers):
            raise ConfigError(
                f"lora_targets: no linear layer is named {target!r}: give patterns such as language_model.*_proj "
                f"or {next(iter(layers))}"
            )
    generator = torch.Generator().manual_seed(settings.seed)
    for name, layer in layers.items():
        if any(fnmatchcase(name, target) for target in settings.lora_targets):
            parent, _, place = name.rpartition(".")
            factored = LoraLinear(layer, settings.lora_rank, find_scale(settings), generator)
            setattr(backbone.get_submodule(parent), place, factored)


def restore_lora(backbone: nn.Module, factors: Mapping[str, Tensor]) -> None:
    """Go on from saved factors. Raises ConfigError where they are not those of this model and these settings."""
    own = {name: weight for name, weight in backbone.named_parameters() if name.endswith(FACTORS)}
    strange = [name for name in sorted({*own, *factors}) if _shape(own, name) != _shape(factors, name)]
    if strange:
        raise ConfigError(
            f"the run's factors are not those of these settings ({strange[0]} has the shape "
            f"{_shape(factors, strange[0])} instead of {_shape(own, strange[0])}): go on with the lora_rank and "
            "lora_targets that it was begun with, or give another out=FOLDER"
        )
    backbone.load_state_dict(dict(factors), strict=False)


def split_lora(weights: Mapping[str, Tensor], settings: ClSettings) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The plain model with the factors added in, and the factors alone, both by the backbone's names."""
    factors = {name: tensor for name, tensor in weights.items() if name.endswith(FACTORS)}
    merged = {name: tensor for name, tensor in weights.items() if name not in factors}
    for name in factors:
        layer, _, kind = name.rpartition(".")
        if kind == "lora_A":
            a, b, weight = factors[name], factors[f"{layer}.lora_B"], merged[f"{layer}.weight"]
            merged[f"{layer}.weight"] = torch.addmm(weight, b, a, alpha=find_scale(settings))
    return merged, factors


def write_adapter(folder: Path, factors: Mapping[str, Tensor], checkpoint: Checkpoint, settings: ClSettings) -> None:
    """The factors as an adapter of the model that training began with, in peft's layout; `Embedder.open` reads it, too.

    `folder` is new and stands in that of the merged model, whose settings it shares.
    """
    is_local = Path(checkpoint.name).expanduser().is_dir()
    values = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": str(checkpoint.folder.resolve()) if is_local else checkpoint.name,
        "revision": None if is_local else checkpoint.revision,
        "r": settings.lora_rank,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        # By their whole names: `gate_proj` alone would be the tower's as well.
        "target_modules": sorted({name.rpartition(".")[0] for name in factors}),
        "inference_mode": True,
    }
    folder.mkdir()
    shutil.copyfile(folder.parent / SETTINGS_FILE, folder / SETTINGS_FILE)
    (folder / ADAPTER_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    path = folder / "adapter_model.safetensors"
    save_file({f"{PEFT_PREFIX}{name}.weight": tensor for name, tensor in factors.items()}, path, {"format": "pt"})
    path.chmod(folder.stat().st_mode & 0o666)  # safetensors hides what it writes from other users


def find_scale(settings: ClSettings) -> float:
    """What the product of the factors is weighed with: it keeps the learning rate's meaning whatever the rank."""
    return settings.lora_alpha / settings.lora_rank


def _shape(tensors: Mapping[str, Tensor], name: str) -> list[int] | None:
    return list(tensors[name].shape) if name in tensors else None
