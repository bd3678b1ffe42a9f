"""Packs within a budget, in order, lazily, and smaller ones when memory runs out."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from moca_rag import feed as module
from moca_rag.errors import ModelError
from moca_rag.feed import CPU_TOKENS, CUDA_TOKENS, Feed, find_token_budget, token_bytes
from moca_rag.inputs import Pack, TokenSequence
from moca_rag.shapes import ModelShape, TextShape, VisionShape, VisionTokens

SHAPE_3B = ModelShape(
    TextShape(hidden_size=2048, intermediate_size=11_008),
    VisionShape(hidden_size=1280, intermediate_size=3420),
    VisionTokens(1, 2, 3),
)


class FakeBackbone:
    """Its state of a token is (id, 1); packs over `room` tokens do not fit into memory."""

    def __init__(self, room: int = 10**9, error: type[BaseException] = torch.OutOfMemoryError) -> None:
        self.device, self.causal = torch.device("cpu"), False
        self.packs: list[tuple[int, ...]] = []
        self._room = room
        self._error = error

    def __call__(self, pack: Pack) -> Tensor:
        if len(pack.ids) > self._room:
            raise self._error("DefaultCPUAllocator: can't allocate memory")
        self.packs.append(pack.lengths)
        return torch.tensor([(float(token), 1.0) for token in pack.ids])


def make_feed(backbone: Any, token_budget: int | None) -> Feed:
    return Feed(backbone, 2, token_budget)


def sequences(lengths: list[int]) -> Iterator[TokenSequence]:
    for number, length in enumerate(lengths):
        ids = np.full(length, number, np.int64)
        yield TokenSequence(ids, np.zeros((3, length), np.int64), np.zeros((0, 588), np.uint8), ())


def numbers(rows: list[Any]) -> list[int]:
    return [round(float(row[0, 0] / row[0, 1])) for row in rows]


def test_packs_keep_order_and_budget_and_a_giant_stands_alone() -> None:
    backbone = FakeBackbone()
    rows = list(make_feed(backbone, 10).run(sequences([3, 3, 5, 20, 1, 9, 1])))
    assert backbone.packs == [(3, 3), (5,), (20,), (1, 9), (1,)]
    assert numbers(rows) == list(range(7))


def test_a_pack_is_read_when_it_is_needed() -> None:
    stream = sequences([4] * 100)
    next(make_feed(FakeBackbone(), 10).run(stream))
    assert len(list(stream)) == 97


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_a_pack_that_does_not_fit_is_halved_and_later_ones_stay_small(error: type[BaseException]) -> None:
    backbone = FakeBackbone(room=25, error=error)
    rows = list(make_feed(backbone, 100).run(sequences([10] * 23)))
    assert numbers(rows) == list(range(23))
    assert backbone.packs[:6] == [(10, 10), (10,), (10, 10), (10, 10), (10,), (10, 10)]
    assert set(backbone.packs[6:]) == {(10,)}


def test_a_single_page_that_does_not_fit_is_refused_with_its_size() -> None:
    with pytest.raises(ModelError, match="a page of 30 tokens does not fit into memory") as caught:
        list(make_feed(FakeBackbone(room=25), 100).run(sequences([10, 30])))
    assert "\n" not in str(caught.value)


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    class Broken(FakeBackbone):
        def __call__(self, pack: Pack) -> Tensor:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(make_feed(Broken(), 100).run(sequences([10, 30])))


def test_while_a_gpu_computes_a_pack_the_next_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def read() -> Iterator[TokenSequence]:
        for number, sequence in enumerate(sequences([10] * 4)):
            events.append(f"read {number}")
            yield sequence

    class Started(FakeBackbone):
        def __call__(self, pack: Pack) -> Tensor:
            events.append(f"start {pack.ids[0]}")
            return super().__call__(pack)

    backbone = Started()
    gpu: Any = SimpleNamespace(type="cuda")
    feed = make_feed(backbone, 10)
    monkeypatch.setattr(backbone, "device", gpu)
    for number, _ in enumerate(feed.run(read())):
        events.append(f"got {number}")
    assert events == ("read 0,read 1,start 0,read 2,start 1,got 0,read 3,start 2,got 1,start 3,got 2,got 3".split(","))


def test_weights_of_a_sequence_give_as_many_embeddings_as_rows() -> None:
    plain, weighed = sequences([3, 2])
    weighed = TokenSequence(
        np.array([2, 4]), weighed.positions, weighed.patches, (), np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    )
    first, second, third = make_feed(FakeBackbone(), 100).run([plain, weighed, plain])
    assert first.shape == third.shape == (1, 2)
    assert (second[:, 0] / second[:, 1]).round(4).tolist() == [2, 4, 3]


def test_the_budget_follows_the_devices_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone: Any = SimpleNamespace(device=torch.device("cpu"), shape=SHAPE_3B)
    assert find_token_budget(backbone) == CPU_TOKENS
    backbone.device = torch.device("cuda")
    budgets = []
    for gigabytes in (1, 6, 16, 80):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=gigabytes: (free * 2**30, 2**37))
        budgets.append(find_token_budget(backbone))
    assert budgets == sorted(budgets)
    assert budgets[0] < budgets[1] < budgets[2] == budgets[-1] == CUDA_TOKENS
    assert budgets[1] * token_bytes(SHAPE_3B) == pytest.approx(6 * 2**30 * module.MEMORY_SHARE, rel=1e-3)


def test_the_budget_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    monkeypatch.setattr(module, "find_token_budget", lambda _: found.append(1) or 10)
    feed = make_feed(FakeBackbone(), None)
    for _ in range(2):
        list(feed.run(sequences([3] * 9)))
    assert found == [1]


def test_nothing_in_is_nothing_out() -> None:
    assert list(make_feed(FakeBackbone(), 10).run([])) == []
