"""Reads a LoRA adapter, in the layout that peft writes, as changes to single weights; other adapters are refused."""

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .checkpoint import ADAPTER_FILE, list_weights, read_json
from .errors import ModelError
from .tensors import KNOWN_EXTRAS, PARTS, asked_parts, check_tensor, open_tensors, translate_key

Change: TypeAlias = Callable[[Tensor], Tensor]

# Options that leave W + scale * B @ A as it is: they choose modules, name files or steer the training.
HARMLESS = frozenset(
    "auto_mapping base_model_name_or_path ensure_weight_tying eva_config exclude_modules inference_mode "
    "layers_pattern layers_to_transform lora_dropout megatron_core modules_to_save peft_version qalora_group_size "
    "revision target_modules task_type r lora_alpha rank_pattern alpha_pattern use_rslora".split()
)
# Options of which some values are harmless. The other ways to begin (pissa, olora, corda, ...) move the base's weights.
USABLE: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
}


def read_adapter(folder: Path, expected: dict[str, Tensor]) -> dict[str, Change]:
    """What turns float32 weights of the base into those of the adapted model, by the base model's names.

    Only the parts of the model that `expected` names are read. A change adds scale * B @ A, where the scale is
    alpha / r (Hu et al., 2021, section 4.1) or alpha / sqrt(r) (Kalajdzievski, 2023), or it puts a tensor that was
    trained whole in the weight's place. Raises ModelError on an adapter that is more than that, or of another model.
    """
    options = _read_options(folder / ADAPTER_FILE)
    (path,) = list_weights(folder)
    with open_tensors(path) as file:
        return {
            name: _read_change(file, path, keys, options, expected[name].shape)
            for name, keys in _sort_keys(list(file.keys()), path, expected).items()
        }


def _read_options(path: Path) -> dict[str, Any]:
    options = {"peft_type": None, **read_json(path)}
    for key, value in options.items():
        if not (value in USABLE[key] if key in USABLE else key in HARMLESS or not value):
            raise ModelError(f"{path}: an adapter with {key}={value!r} is not read here: merge it with peft first")
    return options


def _sort_keys(keys: list[str], path: Path, expected: dict[str, Tensor]) -> dict[str, dict[str, str]]:
    """The file's keys by weight and kind: `A.weight` and `B.weight`, or nothing for a tensor trained whole."""
    changed: dict[str, dict[str, str]] = {}
    passed_over = KNOWN_EXTRAS + tuple(set(PARTS) - set(asked_parts(expected)))
    for key in keys:
        module, _, kind = _module_key(key).partition(".lora_")
        name = translate_key(module) + (".weight" if kind else "")
        if name.startswith(passed_over):
            continue
        if kind not in ("", "A.weight", "B.weight"):
            raise ModelError(f"{path}: {key} is no plain LoRA: merge the adapter with peft first")
        if name not in expected:
            raise ModelError(f"{path}: {key} changes what the base does not have: the adapter is of another model")
        changed.setdefault(name, {})[kind] = key
    return changed


def _module_key(key: str) -> str:
    """A key as the wrapped model knows it."""
    return key.removeprefix("base_model.model.")


def _read_change(file: Any, path: Path, keys: dict[str, str], options: dict[str, Any], shape: torch.Size) -> Change:
    if set(keys) == {""}:
        whole = file.get_tensor(keys[""])
        check_tensor(keys[""], whole, shape, path)
        return partial(_replace, by=whole)
    if set(keys) != {"A.weight", "B.weight"}:
        raise ModelError(f"{path}: {min(keys.values())} lacks its other half: save the adapter again, or copy it whole")
    module = _module_key(keys["A.weight"]).removesuffix(".lora_A.weight")
    rank = int(_option(path, options, "r", "rank_pattern", module))
    alpha = _option(path, options, "lora_alpha", "alpha_pattern", module)
    # Of a convolution A has the kernel, B is one by one.
    shapes = {"A.weight": (rank, *shape[1:]), "B.weight": (shape[0], rank, *(1 for _ in shape[2:]))}
    a, b = (file.get_tensor(keys[kind]) for kind in shapes)
    for kind, factor in zip(shapes, (a, b), strict=True):
        check_tensor(keys[kind], factor, shapes[kind], path, asked_by=ADAPTER_FILE)
    return partial(_add_product, a=a, b=b, scale=alpha / (math.sqrt(rank) if options.get("use_rslora") else rank))


def _option(path: Path, options: dict[str, Any], key: str, pattern_key: str, module: str) -> float:
    """A module's number: that of the first pattern that its name ends with, else the adapter's own."""
    patterns: dict[str, Any] = options.get(pattern_key) or {}
    try:
        fitting = (value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module))
        value: Any = next(fitting, options.get(key))
    except (re.error, AttributeError) as error:
        raise ModelError(f"{path.parent / ADAPTER_FILE}: {pattern_key} holds no patterns: {patterns!r}") from error
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ModelError(f"{path.parent / ADAPTER_FILE}: {key} {value!r} is no number above 0: save the adapter again")
    return float(value)


def _replace(_: Tensor, by: Tensor) -> Tensor:
    return by


def _add_product(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    left, right = (factor.to(weight.device, torch.float32).flatten(1) for factor in (b, a))
    return torch.addmm(weight.flatten(1), left, right, alpha=scale).view_as(weight)
