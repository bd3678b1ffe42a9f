"""Backbones and packs that several tests read: texts, pages and mixes of both."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from moca_rag.backbone import Backbone
from moca_rag.checkpoint import find_checkpoint
from moca_rag.loader import load_backbone
from moca_rag.records import PixelBudget

CPU = torch.device("cpu")
SMALL = PixelBudget(min_pixels=28 * 28, max_pixels=200 * 28 * 28)
Parts = list[Any]


def load(folder: Path) -> Backbone:
    """The whole encoder, the vision tower too, in float32 on the CPU."""
    backbone = load_backbone(find_checkpoint(folder), CPU, torch.float32)
    backbone.load_vision()
    return backbone


def picture(rows: int, columns: int) -> Any:
    return np.random.default_rng(rows).integers(0, 256, (28 * rows, 28 * columns, 3), dtype=np.uint8)


MIXES: list[Parts] = [
    ["What was the revenue of the energy division?"],
    [picture(9, 7), "\nRepresent the given document image."],
    [picture(2, 13)],
    ["before ", picture(5, 6), " between ", picture(3, 3), picture(1, 1), " after"],
    ["x"],
]
