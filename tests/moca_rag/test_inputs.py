"""Token sequences, positions and batches, against transformers' own positions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from moca_rag.errors import ConfigError, ModelError
from moca_rag.inputs import Pack, SequenceBuilder, check_tokenizer, load_tokenizer
from moca_rag.pixels import Grid
from moca_rag.records import PixelBudget
from moca_rag.shapes import VisionTokens
from tests.small_model import small_config, train_tokenizer

SMALL = PixelBudget(min_pixels=28 * 28, max_pixels=64 * 28 * 28)
MAX_TOKENS = 512


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer()


@pytest.fixture(scope="module")
def tokens(tokenizer: Tokenizer) -> VisionTokens:
    ids = [tokenizer.token_to_id(f"<|{name}|>") for name in ("vision_start", "image_pad", "vision_end")]
    return VisionTokens(*ids)


@pytest.fixture(scope="module")
def builder(tokens: VisionTokens) -> SequenceBuilder:
    return SequenceBuilder(train_tokenizer(), tokens, SMALL, MAX_TOKENS)


def picture(rows: int, columns: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (28 * rows, 28 * columns, 3), dtype=np.uint8)


def test_a_page_is_its_framed_image_and_the_prompt_as_raw_text(
    builder: SequenceBuilder, tokenizer: Tokenizer, tokens: VisionTokens
) -> None:
    prompt = "\nRepresent the given document image."
    sequence = builder.build([picture(2, 3), prompt])
    raw = "<|vision_start|>" + "<|image_pad|>" * 6 + "<|vision_end|>" + prompt
    assert sequence.ids.tolist() == tokenizer.encode(raw).ids
    assert sequence.grids == (Grid(4, 6),)
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
        grid = torch.tensor([(1, grid.height, grid.width) for grid in sequence.grids]) if sequence.grids else None
        expected, _ = model.get_rope_index(ids, (ids == tokens.pad).int(), image_grid_thw=grid)
        assert sequence.positions.tolist() == expected[:, 0].tolist()


def test_a_long_text_is_cut_on_the_right_and_the_log_says_so(
    builder: SequenceBuilder, caplog: pytest.LogCaptureFixture
) -> None:
    text = "emissions by region " * 500
    alone, after_image = builder.build([text]), builder.build([picture(8, 8), text])
    assert len(alone.ids) == len(after_image.ids) == MAX_TOKENS
    assert caplog.messages[0].endswith("was cut to 512, the model's limit")
    assert len(builder.build([text[:4000], text, "more"]).ids) == MAX_TOKENS
    assert after_image.ids[66:].tolist() == alone.ids[: MAX_TOKENS - 66].tolist()


def test_a_text_that_fits_is_not_spoken_of(builder: SequenceBuilder, caplog: pytest.LogCaptureFixture) -> None:
    builder.build([picture(8, 8), "x" * 100])
    assert not caplog.messages


def test_images_over_the_limit_are_refused_and_never_cut(builder: SequenceBuilder) -> None:
    builder.build([picture(8, 8)] * 7)
    with pytest.raises(ConfigError, match="images of 528 tokens are over the model's limit of 512"):
        builder.build([picture(8, 8)] * 8)


def test_a_pixel_budget_whose_largest_page_has_no_room_is_refused_with_the_one_that_has(
    tokenizer: Tokenizer, tokens: VisionTokens
) -> None:
    prompt = "\n" + "Represent the given document image."
    num_tokens = 64 + 2 + len(tokenizer.encode(prompt).ids)
    SequenceBuilder(train_tokenizer(), tokens, SMALL, num_tokens).check_room(prompt)
    with pytest.raises(ConfigError, match=f"are {num_tokens} tokens, over .* {num_tokens - 1}: .* at most 49,392"):
        SequenceBuilder(train_tokenizer(), tokens, SMALL, num_tokens - 1).check_room(prompt)


def test_blank_cells_are_left_out_and_the_others_stay_where_they_are(
    builder: SequenceBuilder, tokens: VisionTokens
) -> None:
    sparse = SequenceBuilder(train_tokenizer(), tokens, SMALL, MAX_TOKENS, drop_blank=True)
    page = picture(3, 4)
    page[28:56] = 255
    page[:, :28] = 0
    whole, kept = builder.build(["a", page, "b", picture(1, 2)]), sparse.build(["a", page, "b", picture(1, 2)])
    inked = [1, 2, 3, 9, 10, 11]
    assert kept.grids == (Grid(6, 8, tuple(inked)), Grid(2, 4, (0, 1)))
    slots = np.flatnonzero(whole.ids == tokens.pad)
    places = np.delete(np.arange(len(whole.ids)), slots[np.setdiff1d(np.arange(12), inked)])
    assert np.array_equal(kept.ids, whole.ids[places])
    assert np.array_equal(kept.positions, whole.positions[:, places])
    cells = whole.patches.reshape(-1, 4, 588)
    assert np.array_equal(kept.patches.reshape(-1, 4, 588), cells[[*inked, 12, 13]])


def test_a_pack_holds_its_sequences_end_to_end(builder: SequenceBuilder) -> None:
    first, second = builder.build(["one", picture(2, 2)]), builder.build([picture(1, 3), "two"])
    pack = Pack.of([first, second])
    assert pack.lengths == (len(first.ids), len(second.ids))
    assert pack.ids.tolist() == [*first.ids, *second.ids]
    assert pack.positions[:, len(first.ids) :].tolist() == second.positions.tolist()
    assert pack.grids == (Grid(4, 4), Grid(2, 6))
    assert np.array_equal(pack.patches[16:], second.patches)


def test_a_folder_without_a_tokenizer_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ModelError, match="is not a tokenizer") as caught:
        load_tokenizer(tmp_path / "tokenizer.json")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(tokenizer: Tokenizer, tokens: VisionTokens) -> None:
    check_tokenizer(tokenizer, tokens, 512)
    with pytest.raises(ModelError, match="image_pad"):
        check_tokenizer(tokenizer, VisionTokens(tokens.start, tokens.pad + 1, tokens.end), 512)
    with pytest.raises(ModelError, match="and the model 100"):
        check_tokenizer(tokenizer, tokens, 100)
