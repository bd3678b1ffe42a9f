"""Token sequences, positions and batches, against transformers' own positions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from moca_rag.errors import ModelError
from moca_rag.inputs import (
    MAX_TOKENS,
    Pack,
    SequenceBuilder,
    TokenSequence,
    VisionTokens,
    batch_sequences,
    check_tokenizer,
    load_tokenizer,
)
from moca_rag.records import PixelBudget
from tests.small_model import small_config, train_tokenizer

SMALL = PixelBudget(min_pixels=28 * 28, max_pixels=64 * 28 * 28)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer()


@pytest.fixture(scope="module")
def tokens(tokenizer: Tokenizer) -> VisionTokens:
    ids = [tokenizer.token_to_id(f"<|{name}|>") for name in ("vision_start", "image_pad", "vision_end")]
    return VisionTokens(*ids)


@pytest.fixture(scope="module")
def builder(tokens: VisionTokens) -> SequenceBuilder:
    return SequenceBuilder(train_tokenizer(), tokens, SMALL)


def picture(rows: int, columns: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (28 * rows, 28 * columns, 3), dtype=np.uint8)


def test_a_page_is_its_framed_image_and_the_prompt_as_raw_text(
    builder: SequenceBuilder, tokenizer: Tokenizer, tokens: VisionTokens
) -> None:
    prompt = "\nRepresent the given document image."
    sequence = builder.build([picture(2, 3), prompt])
    raw = "<|vision_start|>" + "<|image_pad|>" * 6 + "<|vision_end|>" + prompt
    assert sequence.ids.tolist() == tokenizer.encode(raw).ids
    assert sequence.grids == ((4, 6),)
    assert sequence.patches.shape == (24, 588)
    assert (sequence.ids == tokens.pad).sum() == 6


def test_special_tokens_that_a_person_types_stay_text(builder: SequenceBuilder, tokens: VisionTokens) -> None:
    sequence = builder.build(["a <|image_pad|> and <|vision_start|>", picture(1, 2), "<|vision_end|>"])
    assert (sequence.ids == tokens.pad).sum() == 2
    assert (sequence.ids == tokens.start).sum() == (sequence.ids == tokens.end).sum() == 1


def test_half_a_surrogate_pair_is_read_as_an_unknown_sign(builder: SequenceBuilder) -> None:
    assert builder.build(["a\ud800b"]).ids.tolist() == builder.build(["a?b"]).ids.tolist()


def test_positions_are_those_of_transformers_for_any_mix(builder: SequenceBuilder, tokens: VisionTokens) -> None:
    with torch.device("meta"):
        model = Qwen2_5_VLModel(Qwen2_5_VLConfig.from_dict(small_config(train_tokenizer())))
    mixes: list[list[Any]] = [
        ["only text"],
        [picture(3, 5), "\nafter"],
        [picture(5, 3)],
        ["before ", picture(2, 7), " between ", picture(4, 4), picture(1, 1), " after"],
    ]
    for parts in mixes:
        sequence = builder.build(parts)
        ids = torch.from_numpy(sequence.ids)[None]
        grid = torch.tensor([(1, *grid) for grid in sequence.grids]) if sequence.grids else None
        expected, _ = model.get_rope_index(ids, (ids == tokens.pad).int(), image_grid_thw=grid)
        assert sequence.positions.tolist() == expected[:, 0].tolist()


def test_a_long_text_is_cut_on_the_right_and_an_image_never(builder: SequenceBuilder) -> None:
    text = "emissions by region " * 2000
    alone, after_image = builder.build([text]), builder.build([picture(8, 8), text])
    assert len(alone.ids) == len(after_image.ids) == MAX_TOKENS
    assert len(builder.build([text[:4000], text, "more"]).ids) == MAX_TOKENS
    assert after_image.ids[66:].tolist() == alone.ids[: MAX_TOKENS - 66].tolist()


def test_a_pack_holds_its_sequences_end_to_end(builder: SequenceBuilder) -> None:
    first, second = builder.build(["one", picture(2, 2)]), builder.build([picture(1, 3), "two"])
    pack = Pack.of([first, second])
    assert pack.lengths == (len(first.ids), len(second.ids))
    assert pack.ids.tolist() == [*first.ids, *second.ids]
    assert pack.positions[:, len(first.ids) :].tolist() == second.positions.tolist()
    assert pack.grids == ((4, 4), (2, 6))
    assert np.array_equal(pack.patches[16:], second.patches)


def sequences(lengths: list[int]) -> Iterator[TokenSequence]:
    for length in lengths:
        ids = np.zeros(length, np.int64)
        yield TokenSequence(ids, np.zeros((3, length), np.int64), np.zeros((0, 588), np.uint8), ())


def test_batches_keep_order_and_budget_and_a_giant_stands_alone() -> None:
    batches = [[len(item.ids) for item in batch] for batch in batch_sequences(sequences([3, 3, 5, 20, 1, 9, 1]), 10)]
    assert batches == [[3, 3], [5], [20], [1, 9], [1]]


def test_batches_are_read_lazily() -> None:
    stream = sequences([4] * 100)
    next(batch_sequences(stream, 10))
    assert len(list(stream)) == 97


def test_a_folder_without_a_tokenizer_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ModelError, match="is not a tokenizer") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(tokenizer: Tokenizer, tokens: VisionTokens) -> None:
    check_tokenizer(tokenizer, tokens, 512)
    with pytest.raises(ModelError, match="image_pad"):
        check_tokenizer(tokenizer, VisionTokens(tokens.start, tokens.pad + 1, tokens.end), 512)
    with pytest.raises(ModelError, match="and the model 100"):
        check_tokenizer(tokenizer, tokens, 100)
