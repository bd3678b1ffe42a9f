"""Counted arithmetic against torch's own counter."""

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moca_rag.checkpoint import find_checkpoint
from moca_rag.costs import count_flops, count_image_flops, count_text_flops
from moca_rag.inputs import Pack, SequenceBuilder, load_tokenizer
from moca_rag.loader import load_backbone
from moca_rag.pixels import Grid
from moca_rag.records import PixelBudget
from moca_rag.shapes import ModelShape, TextShape, VisionShape, VisionTokens
from tests.small_model import write_small_model

SHAPES = {
    "3B": ModelShape(
        TextShape(151_936, 2048, 11_008, 36, 16, 2),
        VisionShape(hidden_size=1280, out_hidden_size=2048),
        VisionTokens(1, 2, 3),
    ),
    "7B": ModelShape(
        TextShape(152_064, 3584, 18_944, 28, 28, 4),
        VisionShape(hidden_size=1280, out_hidden_size=3584),
        VisionTokens(1, 2, 3),
    ),
}
LETTER = Grid(72, 56)


@pytest.mark.parametrize(("name", "teraflops", "vision", "ratio"), [("3B", 11.5, 0.48, 1.91), ("7B", 19.3, 0.29, 1.39)])
def test_a_letter_page_costs_what_the_method_derives(name: str, teraflops: float, vision: float, ratio: float) -> None:
    shape = SHAPES[name]
    whole = count_flops(shape, 1016, [LETTER])
    assert whole / 1e12 == pytest.approx(teraflops, rel=0.005)
    assert count_image_flops(shape.vision, LETTER) / whole == pytest.approx(vision, abs=0.006)
    image_token = whole / 1016
    assert image_token / (count_text_flops(shape.text, 1016) / 1016) == pytest.approx(ratio, abs=0.03)


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (12, 4)])
def test_torch_counts_the_same(tmp_path: Path, rows: int, columns: int) -> None:
    """On grids of whole windows; attention runs as products, which its counter sees on every machine."""
    checkpoint = find_checkpoint(write_small_model(tmp_path))
    backbone = load_backbone(checkpoint, torch.device("cpu"), torch.float32)
    budget = PixelBudget(min_pixels=784, max_pixels=200 * 784)
    builder = SequenceBuilder(load_tokenizer(tmp_path / "tokenizer.json"), backbone.shape.tokens, budget, 2048)
    sequence = builder.build([torch.zeros(28 * rows, 28 * columns, 3, dtype=torch.uint8).numpy(), "some words"])
    backbone.load_vision()
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        backbone(Pack.of([sequence]))
    counted = count_flops(backbone.shape, len(sequence.ids), sequence.grids)
    assert counter.get_total_flops() == pytest.approx(counted, rel=1e-3)
