"""Turns gradients into steps: AdamW for every weight, or Muon for the layers' matrices and AdamW for the rest."""

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from moca_rag.errors import ConfigError

from .ranks import fill, whole
from .settings import RunSettings

Method: TypeAlias = Literal["adamw", "muon"]

BETAS, EPSILON = (0.9, 0.999), 1e-8
LAYERS = (".layers.", ".blocks.", ".merger.")  # whose matrices Muon turns; tables and heads are AdamW's
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
        turned = [weight for name, weight in named.items() if method == "muon" and _is_layer(name, weight)]
        taken = set(map(id, turned))
        others = [weight for weight in named.values() if id(weight) not in taken]
        groups = [
            {"params": [weight for weight in others if weight.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [weight for weight in others if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        rate, fused = settings.learning_rate, next(iter(named.values())).device.type == "cuda"
        self._named = named
        self._parts: list[torch.optim.Optimizer] = []
        if others:  # factors of LoRA may all be matrices of layers
            self._parts.append(torch.optim.AdamW(groups, lr=rate, betas=BETAS, eps=EPSILON, fused=fused))
        if turned:
            decay = settings.weight_decay
            self._parts.append(torch.optim.Muon(turned, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))

    def clear(self) -> None:
        """Drop the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Move the weights along their gradients."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
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


def _is_layer(name: str, weight: Tensor) -> bool:
    return weight.ndim == 2 and any(layer in f".{name}" for layer in LAYERS)
