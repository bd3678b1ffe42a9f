"""Steps of AdamW and Muon, and what of them a pause must keep."""

from dataclasses import replace

import pytest
import torch
from moca_rag.train.optimizer import Optimizer
from moca_rag.train.settings import RunSettings
from torch import Tensor, nn

from moca_rag.errors import ConfigError

MUON = RunSettings(optimizer="muon", learning_rate=0.1, weight_decay=0.0)


class Small(nn.Module):
    """A table, a layer and a head, under the names that a backbone gives them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Linear(4, 6)
        self.layers = nn.ModuleList([nn.Linear(6, 6)])
        self.head = nn.Linear(6, 3)

    def loss(self, rows: Tensor) -> Tensor:
        states: Tensor = self.head(self.layers[0](self.embed_tokens(rows)).tanh())
        return states.square().mean()


def learn(module: Small, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.clear()
        torch.autograd.backward(module.loss(torch.randn(5, 4, generator=torch.Generator().manual_seed(step))))
        optimizer.step(0.1)


def test_muon_moves_a_layer_equally_in_all_directions_and_leaves_the_rest_to_adamw() -> None:
    module, other = Small(), Small()
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    learn(module, Optimizer(module, MUON), range(1))
    learn(other, Optimizer(other, RunSettings(learning_rate=0.1)), range(1))
    moved = module.layers[0].weight - before["layers.0.weight"]
    spread = torch.linalg.svdvals(moved)
    gradient = torch.linalg.svdvals(module.layers[0].weight.grad)
    assert spread[2] > 0.55 * spread[0] and gradient[2] < 0.35 * gradient[0]
    torch.testing.assert_close(module.head.weight, other.head.weight)
    torch.testing.assert_close(module.embed_tokens.weight, other.embed_tokens.weight)


@pytest.mark.parametrize("settings", [MUON, RunSettings(learning_rate=0.1)])
def test_what_is_kept_lets_a_run_go_on_as_if_it_had_not_paused(settings: RunSettings) -> None:
    whole, cut = Small(), Small()
    learn(whole, Optimizer(whole, settings), range(4))
    first = Optimizer(cut, settings)
    learn(cut, first, range(2))
    second = Optimizer(cut, settings)
    second.restore(first.moments(), 2)
    learn(cut, second, range(2, 4))
    for name, weight in whole.named_parameters():
        assert torch.equal(weight, dict(cut.named_parameters())[name]), name


@pytest.mark.parametrize("settings", [MUON, RunSettings(learning_rate=0.1)])
def test_weights_learn_at_their_own_share_of_the_rate(settings: RunSettings) -> None:
    usual, slow = Small(), Small()
    before = {name: weight.clone() for name, weight in usual.named_parameters()}
    learn(usual, Optimizer(usual, settings), range(1))
    learn(slow, Optimizer(slow, replace(settings, rates={"*": 0.5, "layers.*": 0.25})), range(1))
    for name, weight in slow.named_parameters():
        share = 0.25 if name.startswith("layers.") else 0.5
        moved = dict(usual.named_parameters())[name] - before[name]
        torch.testing.assert_close(weight - before[name], share * moved, rtol=1e-3, atol=1e-5)


def test_matrices_of_layers_alone_are_trained_too() -> None:
    module = Small()
    for name, weight in module.named_parameters():
        weight.requires_grad_(name == "layers.0.weight")
    before = module.layers[0].weight.clone()
    learn(module, Optimizer(module, MUON), range(1))
    assert not torch.equal(module.layers[0].weight, before)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ConfigError, match="several ranks hold shards"):
        Optimizer(Small(), MUON, sharded=True)
    with pytest.raises(ConfigError, match="give adamw or muon"):
        Optimizer(Small(), RunSettings(optimizer="sgd"))
    with pytest.raises(ConfigError, match="no trained weight is called so: try language_model"):
        Optimizer(Small(), RunSettings(rates={"visual.*": 2.0}))
    with pytest.raises(ConfigError, match="is 0: give a number above 0, or name it in frozen"):
        Optimizer(Small(), RunSettings(rates={"layers.*": 0}))
