"""Batches of one task each: pure, complete, and the same whoever asks."""

import doctest
from collections import Counter
from typing import Any

import pytest
from moca_rag.train import tasks
from moca_rag.train.tasks import TaskBatches, split_ranks

from moca_rag.errors import ConfigError

SIZES = {"charts": 37, "scans": 50, "": 8, "texts": 120}
TOTAL = sum(SIZES.values())


def make(**changes: Any) -> TaskBatches:
    return TaskBatches(**{"sizes": SIZES, "batch_size": 8, "seed": 3, "keep_last": True, **changes})


def rows_of(batches: TaskBatches, epoch: int = 0) -> list[int]:
    return [row for _, rows in batches.epoch(epoch) for row in rows]


@pytest.mark.parametrize("weights", [None, {"charts": 2.5, "texts": 0.3}])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_rank_has_the_batchs_one_task_over_two_epochs(world: int, weights: dict[str, float] | None) -> None:
    plans = [make(weights=weights) for _ in range(world)]  # each rank plans by itself
    for epoch in range(2):
        for steps in zip(*(plan.epoch(epoch) for plan in plans), strict=True):
            shares = [split_ranks(rows, rank, world) for rank, (_, rows) in enumerate(steps)]
            assert {plans[0].locate(row)[0] for share in shares for row in share} == {steps[0][0]}
            assert [row for share in shares for row in share] == steps[0][1]


def test_proportional_mixing_sees_every_row_exactly_once_an_epoch() -> None:
    for task_aware in (True, False):
        for epoch in range(2):
            assert sorted(rows_of(make(task_aware=task_aware), epoch)) == list(range(TOTAL))


def test_the_last_incomplete_batch_is_dropped_or_kept() -> None:
    kept, dropped = make(), make(keep_last=False)
    assert sum(len(rows) < 8 for _, rows in kept.epoch(0)) == 2  # 37 and 50 are no multiples of 8
    assert Counter(task for task, _ in dropped.epoch(0)) == {"charts": 4, "scans": 6, "": 1, "texts": 15}
    assert all(len(rows) == 8 for _, rows in dropped.epoch(0))
    assert len(set(rows_of(dropped))) == len(rows_of(dropped)) == 26 * 8


@pytest.mark.parametrize("task_aware", [True, False])
@pytest.mark.parametrize("keep_last", [True, False])
@pytest.mark.parametrize("weights", [None, {"charts": 2.5, "texts": 0}])
def test_the_length_is_that_of_any_epoch(weights: dict[str, float] | None, keep_last: bool, task_aware: bool) -> None:
    plan = make(weights=weights, keep_last=keep_last, task_aware=task_aware)
    assert len(plan) == len(plan.epoch(0)) == len(plan.epoch(5)) > 0


@pytest.mark.parametrize("task_aware", [True, False])
def test_a_weight_is_how_often_a_row_is_seen(task_aware: bool) -> None:
    seen = Counter(rows_of(make(weights={"charts": 3, "scans": 0.5, "texts": 0}, task_aware=task_aware)))
    assert [seen[row] for row in range(37)] == [3] * 37
    assert sorted(seen[row] for row in range(37, 87)) == [0] * 25 + [1] * 25
    assert [seen[row] for row in range(87, 95)] == [1] * 8  # no weight given
    assert not any(seen[row] for row in range(95, TOTAL))


def test_weights_decide_the_tasks_shares_of_the_batches() -> None:
    weights = {"charts": 100 / 37, "scans": 4.0, "": 25.0, "texts": 400 / 120}  # shares of 1, 2, 2 and 4
    tasks_seen = Counter(task for task, _ in make(weights=weights).epoch(0))
    for task, share in {"charts": 1, "scans": 2, "": 2, "texts": 4}.items():
        assert tasks_seen[task] / tasks_seen.total() == pytest.approx(share / 9, abs=0.01)


def test_half_a_weight_sees_another_half_each_epoch() -> None:
    plan = make(weights={"scans": 0.5})
    halves = [{row for row in rows_of(plan, epoch) if 37 <= row < 87} for epoch in range(3)]
    assert all(len(half) == 25 for half in halves)
    assert halves[0] != halves[1] != halves[2]


@pytest.mark.parametrize("task_aware", [True, False])
def test_the_order_is_of_seed_and_epoch_alone(task_aware: bool) -> None:
    plan = make(task_aware=task_aware)
    later = plan.epoch(1)  # asked before epoch 0, as after a resume
    assert plan.epoch(0) == make(task_aware=task_aware).epoch(0)
    assert make(task_aware=task_aware).epoch(1) == later
    assert len({str(orders) for orders in (plan.epoch(0), later, make(seed=4, task_aware=task_aware).epoch(0))}) == 3


def test_a_tasks_order_does_not_depend_on_the_other_tasks() -> None:
    alone = TaskBatches({"charts": 37}, batch_size=8, seed=3, keep_last=True)
    beside = [rows for task, rows in make().epoch(0) if task == "charts"]
    assert sorted(beside) == sorted(rows for _, rows in alone.epoch(0))


def test_rows_and_tasks_are_shuffled() -> None:
    plan = make()
    assert [task for task, _ in plan.epoch(0)] != sorted((task for task, _ in plan.epoch(0)), key=list(SIZES).index)
    assert all(rows != sorted(rows) for _, rows in plan.epoch(0) if len(rows) == 8)


def test_each_pass_and_each_task_has_an_order_of_its_own() -> None:
    plan = TaskBatches({"left": 8, "right": 8}, 8, 0, weights={"left": 2})
    orders = [[row % 8 for row in rows] for _, rows in plan.epoch(0)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_a_task_may_have_batches_of_its_own_size() -> None:
    plan = make(batch_sizes={"texts": 40}, keep_last=False)
    sizes = Counter((task, len(rows)) for task, rows in plan.epoch(0))
    assert sizes == {("charts", 8): 4, ("scans", 8): 6, ("", 8): 1, ("texts", 40): 3}
    assert len(plan) == 14
    with pytest.raises(ConfigError, match="batch_size=0: give 1 or more"):
        make(batch_sizes={"texts": 0})
    with pytest.raises(ConfigError, match="'charts' has 37 rows an epoch, where a batch takes 38"):
        make(batch_sizes={"charts": 38}, keep_last=False)


def test_neighbours_stay_in_one_batch_and_every_row_is_seen_once() -> None:
    plan = TaskBatches({"left": 22, "right": 9}, 8, 0, neighbours={"left": 4}, keep_last=True)
    rows = [row for task, rows in plan.epoch(0) if task == "left" for row in rows]
    assert sorted(rows) == list(range(22))
    batch_of = {row: place for place, (_, rows) in enumerate(plan.epoch(0)) for row in rows}
    groups = [{batch_of[row] for row in range(start, start + 4)} for start in range(0, 20, 4)]
    assert sum(len(group) == 1 for group in groups) >= 4  # the short last group may shift one across the border
    alone = TaskBatches({"left": 22, "right": 9}, 8, 0, keep_last=True)
    right = [rows for task, rows in plan.epoch(0) if task == "right"]
    assert sorted(right) == sorted(rows for task, rows in alone.epoch(0) if task == "right")
    assert plan.epoch(0) != plan.epoch(1)
    with pytest.raises(ConfigError, match="neighbours=0: give 1 or more"):
        make(neighbours={"texts": 0})


def test_without_task_awareness_batches_mix_tasks() -> None:
    plan = make(task_aware=False, keep_last=False)
    assert len(plan) == TOTAL // 8
    mixed = [len({plan.locate(row)[0] for row in rows}) for _, rows in plan.epoch(0)]
    assert sum(number > 1 for number in mixed) > 0.9 * len(mixed)
    assert {task for task, _ in plan.epoch(0)} == {"mixed"}


def test_a_row_is_located_in_its_task() -> None:
    plan = make()
    assert [plan.locate(row) for row in (0, 36, 37, 86, 87, 95, TOTAL - 1)] == [
        ("charts", 0),
        ("charts", 36),
        ("scans", 0),
        ("scans", 49),
        ("", 0),
        ("texts", 0),
        ("texts", 119),
    ]
    with pytest.raises(IndexError):
        plan.locate(TOTAL)


@pytest.mark.parametrize(("length", "world"), [(8, 1), (8, 3), (2048, 32), (3, 5), (0, 2)])
def test_ranks_share_a_batch_evenly_and_in_order(length: int, world: int) -> None:
    shares = [split_ranks(list(range(length)), rank, world) for rank in range(world)]
    assert [row for share in shares for row in share] == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"chart": 1.0}}, "did you mean 'charts'"),
        ({"weights": {"nothing": 1.0}}, "known: charts, scans"),
        ({"weights": {"charts": -1.0}}, "is -1.0"),
        ({"weights": {"charts": float("nan")}}, "is nan"),
        ({"weights": {"charts": float("inf")}}, "is inf"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 40, "keep_last": False}, "'charts' has 37 rows an epoch, where a batch takes 40"),
        ({"weights": {"charts": 0.1}, "keep_last": False}, "'charts' has 4 rows"),
        ({"sizes": {"charts": 0}}, "'charts' has 0 rows"),
        ({"sizes": {}}, "no batch"),
        ({"batch_size": 1000, "task_aware": False, "keep_last": False}, "no batch of 1000 rows"),
    ],
)
def test_what_would_silently_train_on_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**changes)


def test_the_examples_run() -> None:
    assert doctest.testmod(tasks) == doctest.TestResults(failed=0, attempted=3)
