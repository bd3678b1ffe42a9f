"""What is hidden of a row, and that nothing but its name decides it."""

from typing import Any

import numpy as np
import pytest
from moca_rag.train.corruption import CorruptedRow, MaskRates, corrupt_row

from moca_rag.inputs import SequenceBuilder
from moca_rag.records import PixelBudget
from moca_rag.shapes import VisionTokens
from tests.small_model import SPECIAL_TOKENS, train_tokenizer

TOKENIZER = train_tokenizer()
IDS = {name: TOKENIZER.token_to_id(name) for name in SPECIAL_TOKENS}
TOKENS = VisionTokens(IDS["<|vision_start|>"], IDS["<|image_pad|>"], IDS["<|vision_end|>"])
BUILDER = SequenceBuilder(TOKENIZER, TOKENS, PixelBudget(784, 200 * 784), 2048)
KEPT = tuple(IDS.values())
RATES = MaskRates()
MASK = IDS["<|mask|>"]


def picture(rows: int, columns: int) -> Any:
    return np.random.default_rng(rows).integers(0, 256, (28 * rows, 28 * columns, 3), dtype=np.uint8)


SEQUENCE = BUILDER.build(["x" * 200, picture(4, 5), " between " * 20, picture(3, 3), "emissions by region " * 60])


def corrupt(row_id: str = "row", epoch: int = 0, seed: int = 0, rates: MaskRates = RATES) -> CorruptedRow:
    return corrupt_row(SEQUENCE, row_id, rates, MASK, KEPT, seed, epoch)


def test_masked_tokens_become_the_mask_and_nothing_else_changes() -> None:
    row = corrupt()
    changed = np.flatnonzero(row.sequence.ids != SEQUENCE.ids)
    assert changed.tolist() == row.masked.tolist()
    assert set(row.sequence.ids[row.masked]) == {MASK}
    assert row.targets.tolist() == SEQUENCE.ids[row.masked].tolist()
    assert row.sequence.patches is SEQUENCE.patches


@pytest.mark.parametrize("seed", range(20))
def test_special_tokens_and_the_first_are_never_masked(seed: int) -> None:
    row = corrupt(seed=seed, rates=MaskRates(text=0.95))
    assert not np.isin(row.targets, KEPT).any()
    assert 0 not in row.masked


def test_the_rates_are_those_asked_for() -> None:
    text = ~np.isin(SEQUENCE.ids, KEPT)
    shares = [len(corrupt(f"row {number}").masked) / text.sum() for number in range(200)]
    assert np.mean(shares) == pytest.approx(0.4, abs=0.01)
    row = corrupt()
    assert len(row.hidden) == round(0.5 * 20) + round(0.5 * 9)
    assert sum(row.hidden < 20) == 10
    assert len(set(row.hidden)) == len(row.hidden)
    assert row.hidden.max() < 29


def test_seed_epoch_and_row_decide_and_nothing_else_does() -> None:
    base, same = corrupt(), corrupt()
    assert base.masked.tolist() == same.masked.tolist()
    assert base.hidden.tolist() == same.hidden.tolist()
    assert base.noise_seed == same.noise_seed
    for other in (corrupt("other"), corrupt(epoch=1), corrupt(seed=1)):
        assert other.masked.tolist() != base.masked.tolist()
        assert other.noise_seed != base.noise_seed


def test_nothing_is_hidden_at_rates_of_zero() -> None:
    row = corrupt(rates=MaskRates(0, 0))
    assert len(row.masked) == len(row.hidden) == 0
    assert np.array_equal(row.sequence.ids, SEQUENCE.ids)
