"""Target sizes, resizing and patches, against transformers' own image processor."""

import numpy as np
import pytest
from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as reference

from moca_rag.errors import ConfigError
from moca_rag.pixels import find_ink, fit_image, normalise_patches, patchify, smart_resize
from moca_rag.records import PixelBudget

BUDGET = PixelBudget()


@pytest.mark.parametrize(
    ("height", "width", "num_tokens"),
    [(2339, 1654, 988), (1654, 2339, 988), (2200, 1700, 1008), (100, 100, 256), (28, 28, 256)],
)
def test_a_page_gets_the_published_number_of_tokens(height: int, width: int, num_tokens: int) -> None:
    rows, columns = smart_resize(height, width, BUDGET)
    assert rows % 28 == columns % 28 == 0
    assert rows * columns // 28**2 == num_tokens


def test_any_size_is_resized_as_transformers_does_and_only_once() -> None:
    generator = np.random.default_rng(0)
    for height, width in generator.integers(30, 4000, (300, 2)).tolist():
        size = smart_resize(height, width, BUDGET)
        assert size == reference.smart_resize(height, width, 28, BUDGET.min_pixels, BUDGET.max_pixels)
        assert smart_resize(*size, BUDGET) == size


@pytest.mark.parametrize(("height", "width"), [(0, 10), (10, 0), (1, 201), (5000, 20)])
def test_an_empty_image_or_a_mere_line_is_refused(height: int, width: int) -> None:
    with pytest.raises(ConfigError, match=f"{width} x {height}"):
        smart_resize(height, width, BUDGET)


def test_an_image_at_its_target_size_is_not_touched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1064, 728, 3), dtype=np.uint8)
    assert fit_image(image, BUDGET) is image


def test_another_image_is_resized_like_transformers_does() -> None:
    image = np.random.default_rng(0).integers(0, 256, (333, 777, 3), dtype=np.uint8)
    processor = reference.Qwen2VLImageProcessorPil(
        size={"shortest_edge": BUDGET.min_pixels, "longest_edge": BUDGET.max_pixels}
    )
    expected = processor(image, input_data_format="channels_last", return_tensors="np")["pixel_values"]
    assert np.array_equal(normalise_patches(patchify(fit_image(image, BUDGET))), expected)


@pytest.mark.parametrize(
    "image", [np.zeros((56, 56), np.uint8), np.zeros((56, 56, 4), np.uint8), np.zeros((56, 56, 3))]
)
def test_what_is_not_uint8_rgb_is_refused_with_its_shape(image: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"uint8 RGB.*\[56, 56"):
        fit_image(image, BUDGET)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (56, 84), (1064, 728)])
def test_patches_are_equal_to_the_image_processor_of_transformers(height: int, width: int) -> None:
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    processor = reference.Qwen2VLImageProcessorPil(do_resize=False)
    expected = processor(image, input_data_format="channels_last", return_tensors="np")["pixel_values"]
    assert np.array_equal(normalise_patches(patchify(image)), expected)


def test_each_pixel_lands_in_its_patch_row() -> None:
    image = np.zeros((56, 84, 3), np.uint8)
    image[14 + 3, 28 + 14 + 5, 2] = 9  # second merged token of the top row, its lower right patch
    rows = patchify(image)
    assert rows.shape == (24, 588)
    assert rows[4 + 3, 2 * 196 + 3 * 14 + 5] == rows.sum() == 9


def test_ink_is_what_differs_within_a_cell_in_any_channel() -> None:
    image = np.full((56, 112, 3), 250, np.uint8)
    image[:28, :28] = 20, 60, 90  # even, though not white
    image[3, 28 + 14 + 9, 2] = 200  # one pixel of one channel
    noise = np.random.default_rng(0).integers(0, 6, (28, 28, 3), dtype=np.uint8)  # as JPEG leaves on paper
    image[28:, 56:84] += noise
    image[28:, 84:] -= np.arange(28, dtype=np.uint8)[:, None]  # a shade that no two neighbouring pixels show
    assert find_ink(patchify(image)).tolist() == [1, 7]


def test_a_blank_page_keeps_a_cell_to_be_seen_by() -> None:
    assert find_ink(patchify(np.full((56, 84, 3), 255, np.uint8))).tolist() == [0]
