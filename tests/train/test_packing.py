"""Batches shared out over ranks and packs."""

import numpy as np
import pytest
from moca_rag.train.packing import plan_packs, price_row, share_out

from moca_rag.pixels import Grid
from moca_rag.shapes import ModelShape, TextShape, VisionShape, VisionTokens

SHAPE_3B = ModelShape(
    TextShape(151_936, 2048, 11_008, 36, 16, 2),
    VisionShape(hidden_size=1280, out_hidden_size=2048),
    VisionTokens(1, 2, 3),
)


def lengths(number: int, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).lognormal(6, 0.8, number).clip(20, 2048).tolist()


@pytest.mark.parametrize(("num_ranks", "pack_cost"), [(1, 4000.0), (3, 4000.0), (8, 2500.0), (4, 100.0)])
def test_every_row_goes_to_one_pack_and_ranks_have_as_many_packs(num_ranks: int, pack_cost: float) -> None:
    costs = lengths(50)
    plans = plan_packs(costs, num_ranks, pack_cost)
    assert sorted(row for packs in plans for pack in packs for row in pack) == list(range(50))
    assert len({len(packs) for packs in plans}) == 1
    for packs in plans:
        for pack in packs:
            assert len(pack) <= 1 or sum(costs[row] for row in pack) <= max(pack_cost, max(costs))


def test_a_rank_without_rows_gets_empty_packs() -> None:
    assert plan_packs([10.0], 2, 5.0) == [[[0]], [[]]]


def test_ranks_finish_together() -> None:
    costs = lengths(32 * 24)
    loads = [sum(costs[row] for row in rows) for rows in share_out(costs, 32)]
    assert np.mean(loads) / max(loads) >= 0.98


def test_a_page_costs_what_the_method_derives() -> None:
    """An image token of a page is worth 1.91 text tokens at 3B."""
    page, text = price_row(SHAPE_3B, 1016, [Grid(72, 56)]), price_row(SHAPE_3B, 1016, [])
    assert page / text == pytest.approx(1.91, abs=0.03)
