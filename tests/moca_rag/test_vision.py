"""The vision tower's windows against transformers' own, and the whole tower on every ragged grid."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from moca_rag.checkpoint import find_checkpoint, read_values
from moca_rag.pixels import normalise_patches
from moca_rag.shapes import read_shape
from moca_rag.vision import VisionTower, order_windows
from tests.small_model import write_small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tower(folder: Path) -> VisionTower:
    tower = VisionTower(read_shape(folder / "config.json", read_values(find_checkpoint(folder))).vision)
    weights = load_file(folder / "model.safetensors")
    begin = "model.visual."
    tower.load_state_dict({key.removeprefix(begin): w for key, w in weights.items() if key.startswith(begin)})
    return tower.eval()


@pytest.fixture(scope="module")
def reference(folder: Path) -> Qwen2_5_VisionTransformerPretrainedModel:
    model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
    return model.eval().model.visual


GRIDS = [(1, 1), (1, 9), (7, 1), (4, 4), (5, 3), (8, 12), (9, 13), (32, 32)]


@pytest.mark.parametrize("grids", [*[(grid,) for grid in GRIDS], tuple(GRIDS[:7])], ids=str)
def test_every_grid_gives_what_transformers_gives(
    tower: VisionTower, reference: Qwen2_5_VisionTransformerPretrainedModel, grids: tuple[tuple[int, int], ...]
) -> None:
    patches = tuple((2 * rows, 2 * columns) for rows, columns in grids)
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 256, (sum(height * width for height, width in patches), 588), dtype=np.uint8)
    grid_thw = torch.tensor([(1, height, width) for height, width in patches])
    with torch.no_grad():
        expected: Any = reference(torch.from_numpy(normalise_patches(rows)), grid_thw=grid_thw)
        torch.testing.assert_close(tower(torch.from_numpy(rows), patches), expected.pooler_output, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_windows_hold_each_token_once_and_only_neighbours(rows: int, columns: int) -> None:
    order, sizes = order_windows(rows, columns, 4)
    assert sorted(order) == list(range(rows * columns))
    assert list(sizes) == sorted(sizes, reverse=True)
    for window in np.split(order, np.cumsum(sizes)[:-1]):
        places = {(index // columns // 4, index % columns // 4) for index in window}
        assert len(places) == 1


def test_a_grid_that_was_first_seen_while_embedding_can_be_trained_on(tower: VisionTower) -> None:
    """Its plan is kept from one to the other."""
    rows = torch.zeros(4 * 6, 588, dtype=torch.uint8)
    with torch.inference_mode():
        tower(rows, ((2, 12),))
    tower.requires_grad_()
    tower(rows, ((2, 12),)).sum().backward()
    assert tower.patch_embed.proj.weight.grad is not None
    tower.requires_grad_(False)
