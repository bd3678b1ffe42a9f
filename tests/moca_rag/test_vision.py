"""The vision tower's windows against transformers' own, and the whole tower on every ragged grid."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import scaled_dot_product_attention
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from moca_rag.checkpoint import find_checkpoint, read_values
from moca_rag.layers import rotate
from moca_rag.pixels import Grid, normalise_patches
from moca_rag.shapes import read_shape
from moca_rag.vision import VisionTower, order_windows, plan_grid
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
    patches = tuple(Grid(2 * rows, 2 * columns) for rows, columns in grids)
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 256, (sum(grid.num_patches for grid in patches), 588), dtype=np.uint8)
    grid_thw = torch.tensor([(1, grid.height, grid.width) for grid in patches])
    with torch.no_grad():
        expected: Any = reference(torch.from_numpy(normalise_patches(rows)), grid_thw=grid_thw)
        torch.testing.assert_close(tower(torch.from_numpy(rows), patches), expected.pooler_output, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_windows_hold_each_token_once_and_only_neighbours(rows: int, columns: int) -> None:
    order, sizes = order_windows(Grid(2 * rows, 2 * columns), 4)
    assert sorted(order) == list(range(rows * columns))
    assert list(sizes) == sorted(sizes, reverse=True)
    for window in np.split(order, np.cumsum(sizes)[:-1]):
        places = {(index // columns // 4, index % columns // 4) for index in window}
        assert len(places) == 1


def test_a_grid_that_was_first_seen_while_embedding_can_be_trained_on(tower: VisionTower) -> None:
    """Its plan is kept from one to the other."""
    rows = torch.zeros(4 * 6, 588, dtype=torch.uint8)
    with torch.inference_mode():
        tower(rows, (Grid(2, 12),))
    tower.requires_grad_()
    tower(rows, (Grid(2, 12),)).sum().backward()
    assert tower.patch_embed.proj.weight.grad is not None
    tower.requires_grad_(False)


def test_a_cell_that_is_left_out_is_as_if_nobody_could_see_it(tower: VisionTower) -> None:
    """Against every cell in its place, and a table of who sees whom."""
    whole, cells = Grid(10, 14), (0, 1, 4, 8, 9, 15, 20, 22, 33, 34)
    rows = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (whole.num_patches, 588), dtype=np.uint8))
    read = torch.zeros(whole.num_cells, dtype=torch.bool).index_fill(0, torch.tensor(cells), True)
    patches = torch.arange(whole.num_patches)
    downs, rights = patches // 4 // whole.columns, patches // 4 % whole.columns
    window = downs // tower.shape.window_side * whole.columns + rights // tower.shape.window_side
    order = torch.tensor(order_windows(whole, tower.shape.window_side)[0])
    rotation = tuple(part.view(-1, 4, *part.shape[1:])[order.argsort()].flatten(0, 1) for part in walk(tower, whole))
    states = tower.patch_embed(rows)
    with torch.no_grad():
        for index, block in enumerate(tower.blocks):
            near = window[:, None] == window if index not in tower.shape.fullatt_block_indexes else True
            sees = read.repeat_interleave(4)[None] & near
            query, key, value = (
                block.attn.qkv(block.norm1(states)).view(len(states), 3, block.attn.num_heads, -1).unbind(1)
            )
            heads = (
                rotate(query, rotation).transpose(0, 1),
                rotate(key, rotation).transpose(0, 1),
                value.transpose(0, 1),
            )
            seen = scaled_dot_product_attention(*heads, attn_mask=sees | torch.eye(len(states), dtype=torch.bool))
            states = states + block.attn.proj(seen.transpose(0, 1).flatten(1))
            states = states + block.mlp(block.norm2(states))
        expected = tower.merger(states)[read]
        found = tower(rows.view(-1, 4, 588)[read].flatten(0, 1), (replace(whole, cells=cells),))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def walk(tower: VisionTower, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    return plan_grid(tower.shape, grid, torch.device("cpu")).rotation
