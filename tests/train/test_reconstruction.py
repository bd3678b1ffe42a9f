"""Both losses against plain loops, and every number at its right place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moca_rag.train.corruption import CorruptedRow, MaskRates, corrupt_row
from moca_rag.train.reconstruction import ROW_SIZE, CorruptedPack, Losses, Objective, Reconstruction, normalise
from torch import Tensor

from moca_rag.backbone import Backbone
from moca_rag.checkpoint import find_checkpoint
from moca_rag.inputs import Pack, SequenceBuilder, load_tokenizer
from moca_rag.loader import load_backbone
from moca_rag.pixels import normalise_patches
from moca_rag.records import PixelBudget
from tests.small_model import write_small_model

SMALL = PixelBudget(784, 64 * 784)
RATES = MaskRates()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model"))


def load(folder: Path) -> Backbone:
    backbone = load_backbone(find_checkpoint(folder), torch.device("cpu"), torch.float32)
    backbone.load_vision()
    return backbone.requires_grad_()


def make(folder: Path, head: Tensor | None = None, **switches: Any) -> Reconstruction:
    torch.manual_seed(0)
    return Reconstruction(load(folder), head, Objective(**{"logit_rows": 7, **switches}))


def picture(rows: int, columns: int) -> Any:
    return np.random.default_rng(rows).integers(0, 256, (28 * rows, 28 * columns, 3), dtype=np.uint8)


def make_rows(folder: Path, model: Reconstruction, rates: MaskRates = RATES) -> list[CorruptedRow]:
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    builder = SequenceBuilder(tokenizer, model.backbone.shape.tokens, SMALL, 2048)
    parts: list[list[Any]] = [
        ["The table on page four lists emissions by region", picture(3, 4), " and by year."],
        ["A line chart shows how the price of copper fell after the harvest."],
        [picture(2, 2), "before", picture(5, 3), "Which bridge was closed for repairs?"],
    ]
    mask = tokenizer.token_to_id("<|mask|>")
    special = tuple(tokenizer.get_added_tokens_decoder())
    return [
        corrupt_row(builder.build(part), f"row {index}", rates, mask, special, 0, 0) for index, part in enumerate(parts)
    ]


def states_of(model: Reconstruction, row: CorruptedRow) -> Tensor:
    """The states of one row alone, its noise put in by hand."""
    sequence = row.sequence
    pixels = torch.from_numpy(normalise_patches(sequence.patches))
    noise = torch.randn(len(row.hidden), 4, ROW_SIZE, generator=torch.Generator().manual_seed(row.noise_seed))
    for place, token in enumerate(row.hidden.tolist()):
        pixels[4 * token : 4 * token + 4] = noise[place]
    states: Tensor = model.backbone(Pack.of([sequence]), pixels if len(pixels) else None)
    return states


def loop(model: Reconstruction, rows: list[CorruptedRow], shift: bool) -> tuple[float, float]:
    """The summed losses, a token and a patch at a time."""
    mlm = mae = 0.0
    head = model.backbone.language_model.embed_tokens.weight if model.lm_head is None else model.lm_head
    for row in rows:
        states = states_of(model, row)
        for place, target in zip(row.masked.tolist(), row.targets.tolist(), strict=True):
            logits = head @ states[place - 1 if shift else place]
            mlm -= float(logits.log_softmax(-1)[target])
        single = CorruptedPack.of([row])
        if len(row.hidden):
            clean = normalise(torch.from_numpy(row.sequence.patches))
            mae += float(model._find_patches(states, single.pack, clean, single.hidden).sum())
    return mlm, mae


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_both_losses_are_those_of_a_plain_loop_over_rows_alone(folder: Path, shift: bool, tied: bool) -> None:
    head = None if tied else torch.randn(512, 64, generator=torch.Generator().manual_seed(1)) * 0.1
    model = make(folder, head, shift=shift)
    rows = make_rows(folder, model)
    with torch.no_grad():
        losses = model(CorruptedPack.of(rows))
        mlm, mae = loop(model, rows, shift)
    assert float(losses.mlm) == pytest.approx(mlm, rel=1e-5)
    assert float(losses.mae) == pytest.approx(mae, rel=1e-5)
    assert losses.num_masked == sum(len(row.masked) for row in rows)
    assert losses.num_values == sum(len(row.hidden) for row in rows) * 4 * ROW_SIZE


def test_the_decoder_sees_all_states_and_its_targets_are_the_clean_pixels(folder: Path) -> None:
    model = make(folder)
    rows = make_rows(folder, model)
    batch = CorruptedPack.of(rows)
    clean = normalise(torch.from_numpy(batch.pack.patches))
    seen: list[Tensor] = []
    model.mae_proj.register_forward_hook(lambda _, inputs, output: seen.append(output))
    with torch.no_grad():
        losses = model(batch)
    wanted = torch.cat(
        [torch.from_numpy(normalise_patches(row.sequence.patches)).view(-1, 4 * ROW_SIZE)[row.hidden] for row in rows]
    )
    torch.testing.assert_close(clean.view(-1, 4 * ROW_SIZE)[batch.hidden], wanted, atol=1e-6, rtol=0)
    assert float(losses.mae) == pytest.approx(float((seen[0] - wanted).square().sum()), rel=1e-5)


def test_normalised_rows_are_those_of_the_processor() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (16, 588), dtype=np.uint8)
    torch.testing.assert_close(
        normalise(torch.from_numpy(rows)), torch.from_numpy(normalise_patches(rows)), atol=1e-6, rtol=0
    )


def test_noise_is_fresh_for_each_patch_or_one_for_all(folder: Path) -> None:
    rows = make_rows(folder, make(folder))
    clean = normalise(torch.from_numpy(CorruptedPack.of(rows).pack.patches))
    batch = CorruptedPack.of(rows)
    for kind, distinct in (("patch", 4 * len(batch.hidden)), ("batch", 1)):
        model = make(folder, noise=kind)
        noised = model._add_noise(clean, batch.hidden, batch.noise_seeds).view(-1, 4, ROW_SIZE)
        hidden = noised[batch.hidden].view(-1, ROW_SIZE)
        assert len(torch.unique(hidden, dim=0)) == distinct
        assert abs(float(hidden.mean())) < 0.1
        assert float(hidden.std()) == pytest.approx(1, abs=0.1)
        others = np.setdiff1d(np.arange(len(noised)), batch.hidden)
        assert torch.equal(noised[others], clean.view(-1, 4, ROW_SIZE)[others])


def test_the_decoder_begins_as_the_middle_layer_and_both_heads_learn(folder: Path) -> None:
    model = make(folder)
    middle = model.backbone.language_model.layers[1].state_dict()
    assert all(torch.equal(tensor, middle[name]) for name, tensor in model.mae_decoder.state_dict().items())
    losses: Losses = model(CorruptedPack.of(make_rows(folder, model)))
    model.total(losses, losses.num_masked, losses.num_values).backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not without


@pytest.mark.parametrize(("switches", "silent"), [({"mlm_weight": 0.0}, "mlm"), ({"mae_weight": 0.0}, "mae")])
def test_a_weight_of_zero_leaves_its_loss_out(folder: Path, switches: dict[str, float], silent: str) -> None:
    model = make(folder, **switches)
    losses = model(CorruptedPack.of(make_rows(folder, model)))
    total = model.total(losses, losses.num_masked, losses.num_values).item()
    kept = losses.mae / losses.num_values * 0.5 if silent == "mlm" else losses.mlm / losses.num_masked
    assert total == pytest.approx(kept.item(), rel=1e-6)


def test_rows_without_images_or_without_masks_are_fine(folder: Path) -> None:
    model = make(folder)
    text_only = make_rows(folder, model)[1:2]
    losses = model(CorruptedPack.of(text_only))
    assert losses.num_values == 0
    assert losses.num_masked > 0
    nothing = model(CorruptedPack.of(make_rows(folder, model, MaskRates(0, 0))))
    assert (nothing.mlm.item(), nothing.mae.item()) == (0, 0)


def test_a_handful_of_rows_is_learnt_by_heart(folder: Path) -> None:
    model = make(folder)
    batch = CorruptedPack.of(make_rows(folder, model))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(60):
        losses = model(batch)
        total = model.total(losses, losses.num_masked, losses.num_values)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert int(losses.num_right) > 0.9 * losses.num_masked
    assert totals[-1] < 0.5 * totals[0]


def test_the_decoder_begins_with_the_colour_it_is_to_expect(folder: Path) -> None:
    model = make(folder)
    colour = np.array([250, 120, 30], np.uint8)
    expected = torch.from_numpy(normalise_patches(np.repeat(colour, 196)[None]))
    model.expect(expected.view(3, -1)[:, 0])
    torch.nn.init.zeros_(model.mae_proj.weight)
    (row, *_) = make_rows(folder, model)
    with torch.no_grad():
        pixels = model.restore(CorruptedPack.of([row])).pixels
    assert torch.allclose(pixels.view(-1, ROW_SIZE), expected.expand(4 * len(row.hidden), -1))
