"""Turns gradients into steps: AdamW for every weight, or Muon for the layers' matrices and AdamW for the rest."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from math import inf
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from moca_rag.errors import ConfigError

from .ranks import fill, whole
from .settings import RunSettings

Method: TypeAlias = Literal["adamw", "muon"]

BETAS, EPSILON = (0.9, 0.999), 1e-8
LAYERS = (".layers.", ".blocks.", ".merger.")  # whose matrices Muon turns; tables and heads are AdamW's
BACKBONE = "backbone."  # what the stages' modules put before a weight's own name
MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")


class Optimizer:
    """The optimizers of a run as one, over float32 masters; norms and biases do not decay.

    `muon` orthogonalises the momentum of each matrix of a layer (Jordan et al., 2024), scaled to the size of AdamW's
    steps (Moonlight, arXiv 2502.16982, section 2.2), so that one learning rate serves both.
    """

    def __init__(self, module: nn.Module, settings: RunSettings, *, sharded: bool = False) -> None:
        """Raises ConfigError on another method, and on Muon over several ranks, whose shards are no whole matrices."""
        method = settings.optimizer
        if method not in get_args(Method):
            raise ConfigError(f"optimizer={method!r}: give adamw or muon")
        if method == "muon" and sharded:
            raise ConfigError("optimizer=muon needs whole matrices, and several ranks hold shards: give adamw")
        named = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        turned = {name: weight for name, weight in named.items() if method == "muon" and _is_layer(name, weight)}
        others = {name: weight for name, weight in named.items() if name not in turned}
        rate, fused = settings.learning_rate, next(iter(named.values())).device.type == "cuda"
        shares = _find_shares(named, settings.rates)
        self._named = named
        self._parts: list[torch.optim.Optimizer] = []
        if others:  # factors of LoRA may all be matrices of layers
            groups = _group(others, shares, settings.weight_decay)
            self._parts.append(torch.optim.AdamW(groups, lr=rate, betas=BETAS, eps=EPSILON, fused=fused))
        if turned:
            groups = _group(turned, shares, settings.weight_decay)
            self._parts.append(torch.optim.Muon(groups, lr=rate, adjust_lr_fn="match_rms_adamw"))

    def clear(self) -> None:
        """Drop the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Move the weights along their gradients."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * group["share"]
            part.step()

    def moments(self) -> dict[str, Tensor]:
        """What going on needs, by kind and weight, gathered from all ranks: every rank must call it."""
        return {
            f"{kind}.{name}": whole(state[kind]).cpu()
            for name, state in self._states()
            for kind in MOMENTS
            if kind in state
        }

    def restore(self, moments: Mapping[str, Tensor], step: int) -> None:
        """Put back what `moments` gave after so many steps."""
        for part in self._parts:
            held = {id(weight) for group in part.param_groups for weight in group["params"]}
            for name, weight in self._named.items():
                found = {kind: f"{kind}.{name}" for kind in MOMENTS if f"{kind}.{name}" in moments}
                if id(weight) not in held or not found:
                    continue
                state = part.state[weight]
                if "exp_avg" in found:
                    state["step"] = torch.tensor(float(step))
                for kind, key in found.items():
                    state[kind] = torch.zeros_like(weight)
                    fill(state[kind], moments[key])

    def _states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, weight in self._named.items():
            for part in self._parts:
                if weight in part.state:
                    yield name, part.state[weight]


def _find_shares(named: Mapping[str, Tensor], rates: Mapping[str, float]) -> dict[str, float]:
    """What part of the learning rate a weight learns at: the last pattern that names it decides, or 1."""
    shares = dict.fromkeys(named, 1.0)
    for pattern, share in rates.items():
        found = [name for name in named if fnmatch(name.removeprefix(BACKBONE), pattern)]
        if not found:
            raise ConfigError(
                f"rates names {pattern!r}, and no trained weight is called so: try language_model.layers.*"
            )
        if not 0 < share < inf:
            raise ConfigError(f"rates of {pattern!r} is {share}: give a number above 0, or name it in frozen")
        shares.update(dict.fromkeys(found, share))
    return shares


def _group(weights: Mapping[str, Tensor], shares: Mapping[str, float], decay: float) -> list[dict[str, Any]]:
    """The weights by their share of the rate, and by whether they decay: norms and biases do not."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in weights.items():
        groups.setdefault((shares[name], decay if weight.ndim > 1 else 0.0), []).append(weight)
    return [{"params": held, "share": share, "weight_decay": own} for (share, own), held in groups.items()]


def _is_layer(name: str, weight: Tensor) -> bool:
    return weight.ndim == 2 and any(layer in f".{name}" for layer in LAYERS)
