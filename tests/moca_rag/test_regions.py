"""Regions of a page and shares of a score, by hand."""

import numpy as np
import pytest
import torch

from moca_rag.errors import ConfigError
from moca_rag.pixels import Grid
from moca_rag.pooling import mean_pool, weighted_pool
from moca_rag.records import Box
from moca_rag.regions import REGION_SHARE, make_grid, split_score, weigh_regions, weigh_runs

IS_IMAGE = np.array([False, *[True] * 6, False, False])
GRID = Grid(4, 6)  # patches: 2 x 3 tokens
STATES = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)


def test_a_box_weighs_each_token_by_what_it_covers_of_it() -> None:
    [weights] = weigh_regions(IS_IMAGE, GRID, [Box(0, 0, 0.5, 0.5)])
    assert weights[IS_IMAGE].tolist() == [1, 0.5, 0, 0, 0, 0]
    assert weights[~IS_IMAGE] == pytest.approx(1.5 / 6)


def test_the_whole_page_weighs_every_token_alike() -> None:
    weights = weigh_regions(IS_IMAGE, GRID, [Box(0, 0, 1, 1)])
    assert np.allclose(weights, 1)
    pooled = weighted_pool(torch.from_numpy(STATES), torch.from_numpy(weights))
    torch.testing.assert_close(pooled, mean_pool(torch.from_numpy(STATES), [9]))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (3, 2), (5, 7)])
def test_the_parts_of_a_page_add_up_to_it(rows: int, columns: int) -> None:
    weights = weigh_regions(IS_IMAGE, GRID, make_grid(rows, columns))
    assert weights.shape == (rows * columns, 9)
    assert np.allclose(weights.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("box", [Box(0.5, 0, 0.5, 1), Box(0.6, 0, 0.4, 1), Box(1.5, 0, 2, 1), Box(-1, -1, 0, 0)])
def test_a_box_without_area_on_the_page_is_refused(box: Box) -> None:
    with pytest.raises(ConfigError, match="covers nothing"):
        weigh_regions(IS_IMAGE, GRID, [Box(0, 0, 1, 1), box])


def test_shares_and_remainder_are_those_of_the_mean_vector() -> None:
    query = np.array([0.6, 0, -0.8, 0, 0], np.float32)
    told = split_score(query, STATES, IS_IMAGE, GRID)
    mean = STATES.mean(axis=0)
    assert told.score == pytest.approx(float(query @ mean) / float(np.linalg.norm(mean)), abs=1e-6)
    assert told.shares.shape == (2, 3)
    assert told.shares[0, 2] == pytest.approx(float(query @ STATES[3]) / 9 / float(np.linalg.norm(mean)), abs=1e-6)
    assert told.shares.sum() + told.remainder == pytest.approx(told.score, abs=1e-6)


def test_cells_that_were_left_out_weigh_nothing_and_have_no_share() -> None:
    sparse, is_image = Grid(4, 6, (1, 5)), np.array([False, True, True, False])
    [weights] = weigh_regions(is_image, sparse, [Box(0.5, 0, 1, 1)])
    assert weights.tolist() == pytest.approx([0.5, 0.5, 1, 0.5])
    told = split_score(np.array([1, 0, 0, 0, 0], np.float32), STATES[:4], is_image, sparse)
    assert (told.shares != 0).tolist() == [[False, True, False], [False, False, True]]
    assert told.shares.sum() + told.remainder == pytest.approx(told.score, abs=1e-6)


def test_a_run_is_its_own_tokens_mean_and_the_pages() -> None:
    weights = weigh_runs(IS_IMAGE, 3)
    assert weights.sum(axis=1) == pytest.approx(1)
    own = STATES[3:5].mean(axis=0)  # the second of three runs of the tokens 1 to 6
    wanted = REGION_SHARE * own + (1 - REGION_SHARE) * STATES.mean(axis=0)
    assert np.allclose(weights[1] @ STATES, wanted, atol=1e-6)
    assert weigh_runs(IS_IMAGE, 64).shape == (6, 9)


def test_the_shares_of_a_page_of_regions_are_those_of_the_nearest() -> None:
    weights = weigh_runs(IS_IMAGE, 3)
    regions = weighted_pool(torch.from_numpy(STATES), torch.from_numpy(weights)).numpy()
    for nearest, query in enumerate(regions):
        told = split_score(query, STATES, IS_IMAGE, GRID, weights)
        assert told.score == pytest.approx(1, abs=1e-6)
        assert told.score == pytest.approx((regions @ query)[nearest], abs=1e-6)
        assert told.shares.sum() + told.remainder == pytest.approx(told.score, abs=1e-6)
